"""Files of ``torch.save``, read in place and without unpickling: from `pickle_data` up to `file`."""
