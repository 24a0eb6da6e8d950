"""The books: holds, limits, jobs, pins and events, durable and exact over processes. Knows no wire, no HTTP."""
