"""What a training state holds besides weights and the optimizer, so that a recovered training is the same one."""
