"""Scripts written for KerasTuner, run by its tuners and by ours."""
