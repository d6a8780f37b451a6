"""From a field to likelihood: divergence, log-density, bits per dimension, and training by maximum likelihood."""
