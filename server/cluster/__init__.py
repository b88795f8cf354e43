"""Membership, claims and doorbell of processes that share a storage; imported only where there are several."""
