"""What a process is allowed: threads, cores, and nothing sent to anybody."""
