"""What several test modules share: small models, checkpoints, terminals, oracles."""
