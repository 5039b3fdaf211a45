"""What is computed: one folder per capability, on a ground floor shared by all. No Ray, no HTTP."""
