"""Access control: keys, hosts, origins, client addresses, rates and connection limits."""
