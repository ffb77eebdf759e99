#include "proto/msg.h"

const char *msg_fe_name(uint8_t type)
{
	switch (type) {
#define X(id, letter, name) \
	case letter:        \
		return name;
		MSG_FE_TABLE(X)
#undef X
	default:
		return "unknown";
	}
}

const char *msg_be_name(uint8_t type)
{
	switch (type) {
#define X(id, letter, name) \
	case letter:        \
		return name;
		MSG_BE_TABLE(X)
#undef X
	default:
		return "unknown";
	}
}
