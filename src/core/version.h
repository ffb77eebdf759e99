/*
 * Who we are, and the PgBouncer whose behaviour is reproduced. Scripts and
 * exporters look at the latter: they know which columns to expect from it.
 */
#ifndef PGSLUICE_CORE_VERSION_H
#define PGSLUICE_CORE_VERSION_H

#define VERSION_OWN                     PACKAGE_STRING
#define VERSION_COMPATIBLE              "1.25.2"

/* Under [pgbouncer], and when the program is called pgbouncer. */
#define VERSION_AS_PGBOUNCER            "PgBouncer " VERSION_COMPATIBLE " (" PACKAGE_STRING ")"

/* The parameter server_version of console sessions. */
#define VERSION_OF_CONSOLE              PACKAGE_VERSION "/bouncer"
#define VERSION_OF_CONSOLE_AS_PGBOUNCER VERSION_COMPATIBLE "/bouncer"

#endif
