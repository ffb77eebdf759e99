/*
 * The alphabet of the wire protocol: message types of both directions,
 * authentication requests, protocol versions and the codes that stand in
 * their place in the first packet of a connection. No other file writes such
 * a letter or number.
 */
#ifndef PGSLUICE_PROTO_MSG_H
#define PGSLUICE_PROTO_MSG_H

#include "core/base.h"

/*
 * Messages that a client sends: constant, type byte, name in the manual. The
 * answers to an authentication request share one type; what it means depends
 * on the request.
 */
#define MSG_FE_TABLE(X)                          \
	X(FE_QUERY, 'Q', "Query")                \
	X(FE_PARSE, 'P', "Parse")                \
	X(FE_BIND, 'B', "Bind")                  \
	X(FE_DESCRIBE, 'D', "Describe")          \
	X(FE_EXECUTE, 'E', "Execute")            \
	X(FE_CLOSE, 'C', "Close")                \
	X(FE_FLUSH, 'H', "Flush")                \
	X(FE_SYNC, 'S', "Sync")                  \
	X(FE_FUNCTION_CALL, 'F', "FunctionCall") \
	X(FE_COPY_DATA, 'd', "CopyData")         \
	X(FE_COPY_DONE, 'c', "CopyDone")         \
	X(FE_COPY_FAIL, 'f', "CopyFail")         \
	X(FE_PASSWORD, 'p', "PasswordMessage")   \
	X(FE_TERMINATE, 'X', "Terminate")

/* Messages that a server sends. */
#define MSG_BE_TABLE(X)                                          \
	X(BE_AUTH, 'R', "Authentication")                        \
	X(BE_BACKEND_KEY, 'K', "BackendKeyData")                 \
	X(BE_PARAMETER_STATUS, 'S', "ParameterStatus")           \
	X(BE_NEGOTIATE, 'v', "NegotiateProtocolVersion")         \
	X(BE_READY, 'Z', "ReadyForQuery")                        \
	X(BE_ERROR, 'E', "ErrorResponse")                        \
	X(BE_NOTICE, 'N', "NoticeResponse")                      \
	X(BE_NOTIFICATION, 'A', "NotificationResponse")          \
	X(BE_COMMAND_COMPLETE, 'C', "CommandComplete")           \
	X(BE_EMPTY_QUERY, 'I', "EmptyQueryResponse")             \
	X(BE_PORTAL_SUSPENDED, 's', "PortalSuspended")           \
	X(BE_PARSE_COMPLETE, '1', "ParseComplete")               \
	X(BE_BIND_COMPLETE, '2', "BindComplete")                 \
	X(BE_CLOSE_COMPLETE, '3', "CloseComplete")               \
	X(BE_ROW_DESCRIPTION, 'T', "RowDescription")             \
	X(BE_NO_DATA, 'n', "NoData")                             \
	X(BE_PARAMETER_DESCRIPTION, 't', "ParameterDescription") \
	X(BE_DATA_ROW, 'D', "DataRow")                           \
	X(BE_FUNCTION_RESULT, 'V', "FunctionCallResponse")       \
	X(BE_COPY_IN, 'G', "CopyInResponse")                     \
	X(BE_COPY_OUT, 'H', "CopyOutResponse")                   \
	X(BE_COPY_BOTH, 'W', "CopyBothResponse")                 \
	X(BE_COPY_DATA, 'd', "CopyData")                         \
	X(BE_COPY_DONE, 'c', "CopyDone")

enum msg_fe {
#define X(id, letter, name) id = letter,
	MSG_FE_TABLE(X)
#undef X
};

enum msg_be {
#define X(id, letter, name) id = letter,
	MSG_BE_TABLE(X)
#undef X
};

/* First number in the body of an Authentication message. */
enum auth_code {
	AUTH_OK = 0,
	AUTH_KERBEROS_V5 = 2,
	AUTH_CLEARTEXT = 3,
	AUTH_MD5 = 5,
	AUTH_SCM = 6,
	AUTH_GSS = 7,
	AUTH_GSS_CONTINUE = 8,
	AUTH_SSPI = 9,
	AUTH_SASL = 10,
	AUTH_SASL_CONTINUE = 11,
	AUTH_SASL_FINAL = 12,
};

/* The version field of a startup packet, and the requests that use its place. */
#define PROTO_VERSION(major, minor) ((uint32_t)(major) << 16 | (uint32_t)(minor))
#define PROTO_V2_0                  PROTO_VERSION(2, 0)
#define PROTO_V3_0                  PROTO_VERSION(3, 0)
#define PROTO_V3_2                  PROTO_VERSION(3, 2)
#define PROTO_CANCEL_REQUEST        PROTO_VERSION(1234, 5678)
#define PROTO_SSL_REQUEST           PROTO_VERSION(1234, 5679)
#define PROTO_GSSENC_REQUEST        PROTO_VERSION(1234, 5680)

/* Transaction status in ReadyForQuery. */
enum tx_status {
	TX_IDLE = 'I',
	TX_BLOCK = 'T',
	TX_FAILED = 'E',
};

/* Name of a message for logs; "unknown" for a byte that is no type. Never NULL. */
const char *msg_fe_name(uint8_t type);
const char *msg_be_name(uint8_t type);

#endif
