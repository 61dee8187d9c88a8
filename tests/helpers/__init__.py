"""What tests of several rooms share: servers, clients, fleets, and ways to cancel anywhere."""
