/* Formats of strings as patterns. Where a standard allows more than people write, one common form is taken: everything
 * produced is of the format. */
#include "grammar/schema_private.h"

#include <string.h>

#define LEAP_YEAR "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
#define DATE                                                                                                           \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])" \
    ")"                                                                                                                \
    "|" LEAP_YEAR "-02-29)"
#define CLOCK  "([01][0-9]|2[0-3]):[0-5][0-9]"
#define TIME   CLOCK ":[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" CLOCK ")"
#define BYTE   "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4   BYTE "(\\." BYTE "){3}"
#define H16    "[0-9a-fA-F]{1,4}"
#define LABEL  "[a-zA-Z0-9]([a-zA-Z0-9-]{0,60}[a-zA-Z0-9])?"
#define ATOM   "[a-zA-Z0-9_+-]{1,20}"
#define NUMBER "[0-9]{1,9}"

typedef struct format {
    const char *name, *pattern;
} format;

static const format formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P(" NUMBER "W|(" NUMBER "D|" NUMBER "M(" NUMBER "D)?|" NUMBER "Y(" NUMBER "M(" NUMBER "D)?)?)"
                 "(T(" NUMBER "H(" NUMBER "M(" NUMBER "S)?)?|" NUMBER "M(" NUMBER "S)?|" NUMBER "S))?"
                 "|T(" NUMBER "H(" NUMBER "M(" NUMBER "S)?)?|" NUMBER "M(" NUMBER "S)?|" NUMBER "S))$"},
    {"email", "^" ATOM "(\\." ATOM "){0,2}@(" LABEL "\\.){1,3}[a-zA-Z]{2,20}$"},
    {"hostname", "^(" LABEL "\\.){0,3}" LABEL "$"},
    {"ipv4", "^" IPV4 "$"},
    {"ipv6",
     "^((" H16 ":){7}" H16 "|(" H16 ":){1,7}:|(" H16 ":){6}:" H16 "|(" H16 ":){5}(:" H16 "){1,2}|(" H16 ":){4}(:" H16
     "){1,3}|(" H16 ":){3}(:" H16 "){1,4}|(" H16 ":){2}(:" H16 "){1,5}|" H16 ":(:" H16 "){1,6}|:((:" H16 "){1,7}|:))$"},
    {"uuid", "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
};

const char *bora_format_pattern(const char *name)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(formats); i++)
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].pattern;
    return NULL;
}
