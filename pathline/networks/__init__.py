"""Networks for fields: called as `network(x, t)` or `network(x, t, y)`, torch only."""
