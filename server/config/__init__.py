"""Settings: the model, and the sources they come from. The only reader of the environment."""
