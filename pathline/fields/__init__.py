"""Fields: what samplers solve. Networks, exact fields and guided pairs all read the same."""
