"""What is measured of an arm, whatever it trains: time, memory, energy, kernels, phases, and the device's best rate."""
