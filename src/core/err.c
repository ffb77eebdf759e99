#include "core/err.h"

const char *err_str(int code)
{
	switch ((enum err_code)(code < 0 ? -code : code)) {
	case E_OK:
		return "no error";
#define X(name, text) \
	case name:    \
		return text;
		ERR_TABLE(X)
#undef X
	}
	return "unknown error";
}
