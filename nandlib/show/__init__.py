"""What people see: figures, tables, notebooks, report, explorer, lesson."""
