libpgsluice_a_SOURCES += \
	src/pool/audit.c src/pool/audit.h \
	src/pool/auth_cache.c src/pool/auth_cache.h \
	src/pool/auth_query.c src/pool/auth_query.h \
	src/pool/auth_reply.c src/pool/auth_reply.h \
	src/pool/backoff.c src/pool/backoff.h \
	src/pool/breaker.c src/pool/breaker.h \
	src/pool/breaker_set.c src/pool/breaker_set.h \
	src/pool/cancel.c src/pool/cancel.h \
	src/pool/cancel_io.c src/pool/cancel_io.h \
	src/pool/cancel_key.c src/pool/cancel_key.h \
	src/pool/carried_key.c src/pool/carried_key.h \
	src/pool/cleanup.c src/pool/cleanup.h \
	src/pool/client.c src/pool/client.h \
	src/pool/dedicated.c src/pool/dedicated.h \
	src/pool/drain.c src/pool/drain.h \
	src/pool/engine.c src/pool/engine.h \
	src/pool/failure.c src/pool/failure.h src/pool/failure_tbl.h \
	src/pool/handover.c src/pool/handover.h \
	src/pool/handover_stmt.c src/pool/handover_stmt.h \
	src/pool/hba_conf.c src/pool/hba_conf.h \
	src/pool/health.c src/pool/health.h \
	src/pool/health_judge.c src/pool/health_judge.h \
	src/pool/health_saved.c src/pool/health_saved.h \
	src/pool/health_facts.c src/pool/health_facts.h \
	src/pool/health_probe.c src/pool/health_probe.h \
	src/pool/janitor.c src/pool/janitor.h \
	src/pool/link.c src/pool/link.h \
	src/pool/link_client.c \
	src/pool/link_int.h \
	src/pool/link_out.h \
	src/pool/link_server.c \
	src/pool/link_vars.c \
	src/pool/login.c src/pool/login.h src/pool/login_int.h src/pool/login_auth.c src/pool/login_job.c \
	src/pool/login_place.c src/pool/login_turn.c \
	src/pool/login_names.c src/pool/login_rules.c src/pool/login_rules.h \
	src/pool/login_params.c src/pool/login_params.h \
	src/pool/peer.c src/pool/peer.h \
	src/pool/pool.c src/pool/pool.h src/pool/pool_int.h src/pool/pool_login.c \
	src/pool/endpoint.c src/pool/endpoint.h \
	src/pool/pool_conf.c src/pool/pool_conf.h \
	src/pool/prelogin.c src/pool/prelogin.h \
	src/pool/prep.c src/pool/prep.h \
	src/pool/query_hint.c src/pool/query_hint.h \
	src/pool/query_timeout.c src/pool/query_timeout.h \
	src/pool/queue.c src/pool/queue.h \
	src/pool/queue_estimate.c src/pool/queue_estimate.h \
	src/pool/refresh.c src/pool/refresh.h \
	src/pool/refuse.c src/pool/refuse.h \
	src/pool/registry.c src/pool/registry.h \
	src/pool/registry_walk.c src/pool/registry_walk.h \
	src/pool/replication.c src/pool/replication.h \
	src/pool/report.c src/pool/report.h \
	src/pool/rerun.c src/pool/rerun.h \
	src/pool/rollup.c src/pool/rollup.h \
	src/pool/route.c src/pool/route.h \
	src/pool/server.c src/pool/server.h \
	src/pool/server_login.c src/pool/server_login.h \
	src/pool/server_tls.c src/pool/server_tls.h \
	src/pool/shadow.c src/pool/shadow.h \
	src/pool/stats.c src/pool/stats.h \
	src/pool/shape.c src/pool/shape.h \
	src/pool/stmt.c src/pool/stmt.h \
	src/pool/survey.c src/pool/survey.h \
	src/pool/suspend.c src/pool/suspend.h \
	src/pool/tls_conf.c src/pool/tls_conf.h \
	src/pool/repeat.c src/pool/repeat.h \
	src/pool/retry.c src/pool/retry.h \
	src/pool/survive.c src/pool/survive.h \
	src/pool/vars.c src/pool/vars.h \
	src/pool/verifiers.c src/pool/verifiers.h \
	src/pool/virtual.c src/pool/virtual.h \
	src/pool/virtual_int.h \
	src/pool/virtual_shape.c \
	src/pool/virtual_sql.c
