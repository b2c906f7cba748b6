"""Training: state and pure step, plateau and early stopping, checkpoints, and the loop that uses them."""
