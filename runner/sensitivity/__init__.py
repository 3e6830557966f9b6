"""What each tensor's errors cost: KL divergence of the running model with one tensor degraded."""
