"""TensorBoard and progress."""
