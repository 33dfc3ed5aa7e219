"""Chapter 5: theorems about memorization, each put beside a simulation that could contradict it."""
