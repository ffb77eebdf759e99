# The whole suite is one entry of make check; see test/integration/README.md.
INTEGRATION_FILES = \
	test/integration/README.md \
	test/integration/conftest.py \
	test/integration/harness/__init__.py \
	test/integration/harness/bench.py \
	test/integration/harness/cases.py \
	test/integration/harness/certs.py \
	test/integration/harness/cluster.py \
	test/integration/harness/differential.py \
	test/integration/harness/load.py \
	test/integration/harness/pam.py \
	test/integration/harness/pooler.py \
	test/integration/harness/procs.py \
	test/integration/harness/replication.py \
	test/integration/harness/scram.py \
	test/integration/harness/scripts.py \
	test/integration/harness/side.py \
	test/integration/harness/slapd.py \
	test/integration/harness/standby.py \
	test/integration/harness/tls.py \
	test/integration/harness/wire.py \
	test/integration/programs/Console.java \
	test/integration/pytest.ini \
	test/integration/test_auth_matrix.py \
	test/integration/test_auth_query.py \
	test/integration/test_breakers.py \
	test/integration/test_bad_input.py \
	test/integration/test_cancel.py \
	test/integration/test_channel_binding.py \
	test/integration/test_classifier.py \
	test/integration/test_close_reasons.py \
	test/integration/test_config_reload.py \
	test/integration/test_console_commands.py \
	test/integration/test_console_databases.py \
	test/integration/test_console_rights.py \
	test/integration/test_console_show.py \
	test/integration/test_console_sockets.py \
	test/integration/test_copy.py \
	test/integration/test_cve.py \
	test/integration/test_dns.py \
	test/integration/test_drain.py \
	test/integration/test_errors.py \
	test/integration/test_extended.py \
	test/integration/test_failover.py \
	test/integration/test_hba.py \
	test/integration/test_interop.py \
	test/integration/test_ldap.py \
	test/integration/test_lifetimes.py \
	test/integration/test_listen_unix.py \
	test/integration/test_logging.py \
	test/integration/test_login.py \
	test/integration/test_network_settings.py \
	test/integration/test_pam.py \
	test/integration/test_parameter_reset.py \
	test/integration/test_parameters.py \
	test/integration/test_peering.py \
	test/integration/test_pgbench.py \
	test/integration/test_pipelines.py \
	test/integration/test_pool_limits.py \
	test/integration/test_pool_modes.py \
	test/integration/test_protocol_versions.py \
	test/integration/test_prelogin.py \
	test/integration/test_prepared.py \
	test/integration/test_query_timeouts.py \
	test/integration/test_queue.py \
	test/integration/test_readiness.py \
	test/integration/test_regressions.py \
	test/integration/test_reload.py \
	test/integration/test_replication.py \
	test/integration/test_replication_stream.py \
	test/integration/test_replication_tools.py \
	test/integration/test_reset_check.py \
	test/integration/test_restart.py \
	test/integration/test_retries.py \
	test/integration/test_saslprep.py \
	test/integration/test_scram_malice.py \
	test/integration/test_secrets.py \
	test/integration/test_endpoints.py \
	test/integration/test_server_login.py \
	test/integration/test_server_loss.py \
	test/integration/test_shadow.py \
	test/integration/test_shutdown.py \
	test/integration/test_side_by_side.py \
	test/integration/test_signals_process.py \
	test/integration/test_startup_packet.py \
	test/integration/test_strangers.py \
	test/integration/test_surviving_clients.py \
	test/integration/test_suspend.py \
	test/integration/test_systemd.py \
	test/integration/test_threads.py \
	test/integration/test_timeouts.py \
	test/integration/test_virtual_statements.py \
	test/integration/test_tls_clients.py \
	test/integration/test_tls_malice.py \
	test/integration/test_tls_malice_servers.py \
	test/integration/test_tls_reload.py \
	test/integration/test_tls_servers.py \
	test/integration/test_tls_settings.py \
	test/integration/test_tls_traffic.py

TESTS += test/integration/run.sh
EXTRA_DIST += test/integration/run.sh $(INTEGRATION_FILES)

check_PROGRAMS += test/integration/programs/classify
test_integration_programs_classify_SOURCES = test/integration/programs/classify.c
test_integration_programs_classify_LDADD = $(SLUICE_LIBS)
