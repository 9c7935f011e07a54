"""Server-rendered pages: jobs, one job live, upload, models, methods."""
