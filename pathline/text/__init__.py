"""Text encoders: captions become vectors, learned with the model or given by one that was trained on text."""
