"""What each kind of stage can be told: one file for each kind. Torch-free; every key has a description."""
