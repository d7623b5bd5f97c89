"""What both pages share: texts and control specs."""
