# Programs in many languages, none of them built by make; see test/drivers/README.md.
EXTRA_DIST += \
	test/drivers/README.md \
	test/drivers/report.py \
	test/drivers/run.py \
	test/drivers/lib/dbapi.py \
	test/drivers/lib/scenario.py \
	test/drivers/asyncpg/client.py \
	test/drivers/asyncpg/driver.ini \
	test/drivers/dbd-pg/client.pl \
	test/drivers/dbd-pg/driver.ini \
	test/drivers/libpqxx/Makefile \
	test/drivers/libpqxx/client.cc \
	test/drivers/libpqxx/driver.ini \
	test/drivers/php-pdo/client.php \
	test/drivers/php-pdo/driver.ini \
	test/drivers/ruby-pg/client.rb \
	test/drivers/ruby-pg/driver.ini \
	test/drivers/libpq/Makefile \
	test/drivers/libpq/client.h \
	test/drivers/libpq/driver.ini \
	test/drivers/libpq/main.c \
	test/drivers/libpq/session.c \
	test/drivers/libpq/steps.c \
	test/drivers/psql/client.py \
	test/drivers/psql/driver.ini \
	test/drivers/psycopg2/client.py \
	test/drivers/psycopg2/driver.ini \
	test/drivers/psycopg3/client.py \
	test/drivers/psycopg3/driver.ini
