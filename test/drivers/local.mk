# Programs in many languages, none of them built by make; see test/drivers/README.md.
EXTRA_DIST += \
	test/drivers/README.md \
	test/drivers/report.py \
	test/drivers/run.py \
	test/drivers/lib/dbapi.py \
	test/drivers/lib/scenario.py \
	test/drivers/psql/client.py \
	test/drivers/psql/driver.ini \
	test/drivers/psycopg2/client.py \
	test/drivers/psycopg2/driver.ini \
	test/drivers/psycopg3/client.py \
	test/drivers/psycopg3/driver.ini
