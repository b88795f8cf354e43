"""What several processes over one storage tell each other; imported only where there are several."""
