"""ODE and SDE numerics: one step at a time, on any process, knowing nothing of fields."""
