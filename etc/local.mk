# Samples; installed beside the documentation, to be copied to /etc/pgsluice.
exampledir = $(docdir)/examples
dist_example_DATA = etc/pgsluice.ini etc/userlist.txt etc/hba.conf etc/ident.conf
