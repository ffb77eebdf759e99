libpgsluice_a_SOURCES +=
