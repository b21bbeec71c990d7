def measure_paper(report, scratch):
    pass
