"""Settings of the process: threads and cores, no usage statistics, progress, former names."""
