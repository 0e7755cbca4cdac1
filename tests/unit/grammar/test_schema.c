/* JSON schemas, keyword by keyword: texts that fit, texts that do not, and what is refused with which words. */
#include "grammar_fixture.h"

static void check(const char *schema, const char *const *whole, const char *const * not )
{
    texts_fit(schema_compile(schema), schema, FIT_WHOLE, whole);
    texts_fit(schema_compile(schema), schema, FIT_NOT, not );
}

static void test_types(void **state)
{
    (void)state;
    check("{\"type\":\"null\"}", TEXTS("null"), TEXTS("true", "nulll", " null", "\"null\""));
    check("{\"type\":\"boolean\"}", TEXTS("true", "false"), TEXTS("null", "True", "1"));
    check("{\"type\":\"integer\"}", TEXTS("0", "-1", "999999999999999999", "10"),
          TEXTS("1.", "-0", "01", "1e", "+1", "1000000000000000000", "\""));
    check("{\"type\":\"number\"}", TEXTS("0", "-1.5", "1e5", "-0", "12.34E-56", "1e+99", "0.000000000000001"),
          TEXTS("01", ".5", "1e999", "0.0000000000000001", "--"));
    check("{\"type\":[\"string\",\"null\"]}", TEXTS("null", "\"\"", "\"a\""), TEXTS("1", "[", "true"));
    check("{\"type\":[\"integer\",\"number\"]}", TEXTS("1.5", "3"), TEXTS("\""));
    check("true", TEXTS("null", "[1, {\"a\": []}]", "\"x\"", "-2.5e1", "{}"), TEXTS(",", "]"));
    check("{}", TEXTS("null", "{\"\":1,\"\":2}"), TEXTS("{1"));
}

static void test_strings(void **state)
{
    (void)state;
    check("{\"type\":\"string\"}",
          TEXTS("\"\"", "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                "\"\\u0041\\u00e9\\uD83D\\uDe00\\uFFFF\\u0001\\u0010\\u0100\"",
                "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\""),
          TEXTS("\"\n", "\"\t", "\"\x01", "\"\\x", "\"\\u0000", "\"\\ud83d\"", "\"\\ud83d\\u0041", "\"\\ude00",
                "\"\\ug", "\"\xff", "\"\xc0\x80", "\"\xed\xa0\x80", "\"\xf4\x90", "\"\"\""));
    check("{\"minLength\":2,\"maxLength\":3}", TEXTS("\"ab\"", "\"abc\"", "\"\\ud83d\\ude00\xc3\xa9\\n\""),
          TEXTS("\"a\"", "\"abcd", "\"\"", "1"));
    check("{\"type\":\"string\",\"maxLength\":0}", TEXTS("\"\""), TEXTS("\"a"));
    check("{\"type\":\"string\",\"minLength\":1}", TEXTS("\"a\"", "\"abcdefgh\""), TEXTS("\"\""));
    check("{\"type\":\"string\",\"minLength\":2.0,\"maxLength\":2}", TEXTS("\"ab\""), TEXTS("\"a\"", "\"abc"));
}

static void test_patterns(void **state)
{
    (void)state;
    check("{\"pattern\":\"^[A-Z]{2}-\\\\d+$\"}", TEXTS("\"AB-1\"", "\"XY-0123\""),
          TEXTS("\"A-", "\"AB-\"", "\"AB-1x", "\"xAB"));
    check("{\"pattern\":\"b\"}", TEXTS("\"b\"", "\"abc\"", "\"\\nb\\n\""), TEXTS("\"a\"", "\"\""));
    check("{\"pattern\":\"^a\"}", TEXTS("\"a\"", "\"ab\""), TEXTS("\"b"));
    check("{\"pattern\":\"a$\"}", TEXTS("\"a\"", "\"ba\""), TEXTS("\"ab\""));
    check("{\"pattern\":\"^a$|^b\"}", TEXTS("\"a\"", "\"bc\""), TEXTS("\"ab", "\"c"));
    check("{\"pattern\":\"^(ab|c(?:d|e)*?)?f{0,2}$\"}", TEXTS("\"\"", "\"ab\"", "\"cde\"", "\"cff\"", "\"ff\""),
          TEXTS("\"abc", "\"fff", "\"d"));
    check("{\"pattern\":\"^[\\\"\\\\\\\\\\\\n]+$\"}", TEXTS("\"\\\"\"", "\"\\\\\\n\""), TEXTS("\"n", "\"\\t"));
    check("{\"pattern\":\"^.[^a]\\\\w\\\\W\\\\s\\\\S\\\\D$\"}",
          TEXTS("\"xb_- yz\"", "\"\xe2\x82\xac\xc3\xa9"
                               "a\\t\xc2\xa0xq\""),
          TEXTS("\"\\n", "\"xa", "\"xb-", "\"xba_"));
    check("{\"pattern\":\"^\\\\u0041\\\\x42\\\\uD83D\\\\uDE00[\\\\b\\\\]\\\\-x-]\\\\.\\\\/$\"}",
          TEXTS("\"AB\xf0\x9f\x98\x80\\b./\"", "\"AB\xf0\x9f\x98\x80]./\"", "\"AB\xf0\x9f\x98\x80-./\""),
          TEXTS("\"ABC", "\"a"));
    check("{\"pattern\":\"^[\\\\d\\\\s_]$\"}", TEXTS("\"7\"", "\"_\"", "\" \""), TEXTS("\"a"));
}

static void test_formats(void **state)
{
    (void)state;
    check("{\"format\":\"date\"}", TEXTS("\"2024-02-29\"", "\"2000-02-29\"", "\"1999-12-31\"", "\"2023-04-30\""),
          TEXTS("\"2023-02-29\"", "\"1900-02-29", "\"2023-04-31", "\"2023-13", "\"2023-00", "\"23-"));
    check("{\"format\":\"time\"}", TEXTS("\"00:00:00Z\"", "\"23:59:59.123+14:00\""),
          TEXTS("\"24", "\"12:60", "\"12:00:00\""));
    check("{\"type\":\"string\",\"format\":\"date-time\"}", TEXTS("\"2024-02-29T12:00:00.5Z\""),
          TEXTS("\"2024-02-29 ", "\"x"));
    check("{\"format\":\"duration\"}", TEXTS("\"P1W\"", "\"P1Y2M3DT4H5M6S\"", "\"PT1M\"", "\"P1DT1S\""),
          TEXTS("\"P\"", "\"P1YT\"", "\"P1Y1D", "\"PT1H1S", "\"1"));
    check("{\"format\":\"email\"}", TEXTS("\"a.b+c@d-e.example\""), TEXTS("\"@", "\"a@b\"", "\"a..", "\"a@-"));
    check("{\"format\":\"hostname\"}", TEXTS("\"localhost\"", "\"a-b.example.org\""), TEXTS("\"-", "\"a.\"", "\"a_"));
    check("{\"format\":\"ipv4\"}", TEXTS("\"0.0.0.0\"", "\"255.249.199.10\""),
          TEXTS("\"256", "\"1.2.3\"", "\"01", "\"1.2.3.4."));
    check("{\"format\":\"ipv6\"}",
          TEXTS("\"::\"", "\"::1\"", "\"1:2:3:4:5:6:7:8\"", "\"fe80::a:b\"", "\"1::\"", "\"1:2:3:4:5:6:7::\""),
          TEXTS("\"1:2\"", "\"1::2::", "\":1", "\"12345", "\"1:2:3:4:5:6:7:8:"));
    check("{\"format\":\"uuid\"}", TEXTS("\"01234567-89ab-cdef-ABCD-0123456789ab\""), TEXTS("\"0123456-", "\"g"));
}

static void test_values(void **state)
{
    (void)state;
    check("{\"enum\":[\"a\",\"ab\",\"b\\\"\\u00e9\\n\",1,-2.5,null,true,[1,{\"x\":[]}],\"\"]}",
          TEXTS("\"a\"", "\"ab\"", "\"b\\\"\xc3\xa9\\n\"", "1", "-2.5", "null", "true", "[1,{\"x\":[]}]",
                "[ 1, { \"x\": [] } ]", "\"\""),
          TEXTS("\"abc", "2", "false", "[2", "\"\\u0061", "1.0"));
    check("{\"type\":[\"string\",\"integer\"],\"enum\":[\"a\",1,1.5,2.0,null]}", TEXTS("\"a\"", "1", "2.0"),
          TEXTS("1.5", "null"));
    check("{\"const\":0.1}", TEXTS("0.1"), TEXTS("0.2", "1", "0.10"));
    check("{\"const\":1e300}", TEXTS("1e+300"), TEXTS("10"));
    check("{\"const\":{\"b\":{},\"a\":[true]}}", TEXTS("{\"b\":{},\"a\":[true]}", "{\"b\": {}, \"a\": [true]}"),
          TEXTS("{\"a", "{}"));
    check("{\"enum\":[1,2],\"const\":2}", TEXTS("2"), TEXTS("1"));
}

static void test_objects(void **state)
{
    (void)state;
    check("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"null\"},\"c\":{\"type\":"
          "\"boolean\"}},"
          "\"required\":[\"b\"],\"additionalProperties\":false}",
          TEXTS("{\"b\":null}", "{\"a\": 1, \"b\": null}", "{\"b\":null,\"c\":true}",
                "{\n  \"a\": 1,\n  \"b\": null,\n  \"c\": false\n}", "{ \"b\":null }"),
          TEXTS("{}", "{\"a\":1}", "{\"b\":null,\"a", "{\"c", "{\"b\":null,}", "{\"b\":null,\"b", "{\"b\" :", "{  ",
                "{\"d", "{\n\n", "{\"b\":  "));
    check("{\"properties\":{\"a\":true,\"b\":false}}", TEXTS("{}", "{ }", "{\"a\":[1]}"),
          TEXTS("{\"b\"", "{\"c", "[", "{,"));
    check("{\"type\":\"object\"}", TEXTS("{}", "{\"\":{\"x\\\"\xc3\xa9\":1}}", "{\"a\":1,\"a\":2}"),
          TEXTS("{1", "{\"a\"}", "{\"a\":1,}"));
    check(
        "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"ab\":{\"const\":2},\"\xc3\xa9\\\"\":{\"const\":3}},"
        "\"additionalProperties\":{\"type\":\"null\"}}",
        TEXTS("{\"a\":1,\"ab\":2,\"\xc3\xa9\\\"\":3,\"abc\":null,\"\":null}", "{\"b\":null}",
              "{\"aa\":null,\"a\\n\":null}", "{\"\xc3\xa9\":null,\"\xc3\xaa\":null}", "{\"\xc3\xa9\\\"x\":null}"),
        TEXTS("{\"a\":n", "{\"ab\":n", "{\"\xc3\xa9\\\"\":n", "{\"b\":1", "{\"b\":null,\"a\":", "{\"\\u0061"));
    check("{\"type\":\"object\",\"required\":[\"a\",\"b\",\"a\"]}",
          TEXTS("{\"a\":1,\"b\":[]}", "{\"a\":1,\"b\":[],\"c\":0}"), TEXTS("{}", "{\"a\":1}", "{\"b"));
    check("{\"properties\":{},\"additionalProperties\":true,\"required\":[\"x\"]}", TEXTS("{\"x\":1}"), TEXTS("{}"));
    check("{\"properties\":{\"z\":{\"const\":1},\"a\":{\"const\":2}},\"required\":[\"a\",\"z\"]}",
          TEXTS("{\"z\":1,\"a\":2}"), TEXTS("{\"a", "{\"z\":1}"));
}

static void test_arrays(void **state)
{
    (void)state;
    check("{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
          TEXTS("[]", "[ ]", "[1]", "[1, 2,3]", "[\n 1,\n 2\n]"), TEXTS("[1,]", "[,", "[\"", "[1 ,"));
    check("{\"items\":{\"const\":1},\"minItems\":2,\"maxItems\":3}", TEXTS("[1,1]", "[1,1,1]"),
          TEXTS("[]", "[1]", "[1,1,1,"));
    check("{\"items\":{\"const\":1},\"minItems\":2}", TEXTS("[1,1]", "[1,1,1,1,1]"), TEXTS("[]", "[1]"));
    check("{\"type\":\"array\",\"maxItems\":1}", TEXTS("[]", "[[]]"), TEXTS("[1,"));
    check("{\"type\":\"array\",\"maxItems\":0}", TEXTS("[]"), TEXTS("[1", "[["));
    check("{\"type\":\"array\",\"items\":false}", TEXTS("[]"), TEXTS("[1"));
    check("{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":0,\"maxItems\":2}",
          TEXTS("[]", "[true]", "[true,false]"), TEXTS("[true,false,"));
}

static void test_references(void **state)
{
    (void)state;
    check("{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#\"}},"
          "\"required\":[\"next\"]}]}",
          TEXTS("null", "{\"next\":null}", "{\"next\":{\"next\":null}}"), TEXTS("{}", "{\"next\":1"));
    check("{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}}}",
          TEXTS("[]", "[[],[[]]]"), TEXTS("[1", "{"));
    check("{\"properties\":{\"a\":{\"const\":1},\"b\":{\"$ref\":\"#/properties/a\"},\"c\":{\"$ref\":\"#/definitions/"
          "x~1y~0%20z/anyOf/1\"}},"
          "\"definitions\":{\"x/y~ z\":{\"anyOf\":[false,{\"const\":2}]}},\"required\":[\"a\",\"b\",\"c\"]}",
          TEXTS("{\"a\":1,\"b\":1,\"c\":2}"), TEXTS("{\"a\":1,\"b\":2", "{\"a\":1,\"b\":1,\"c\":1"));
    check("{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"},{\"const\":1.5}],\"type\":[\"integer\",\"null\"]}",
          TEXTS("1"), TEXTS("\"", "1.5", "null"));
    check("{\"allOf\":[{\"type\":\"integer\"}],\"description\":\"x\"}", TEXTS("1"), TEXTS("\""));
    check("{\"$ref\":\"#/$defs/n\",\"type\":\"integer\",\"$defs\":{\"n\":{\"type\":\"number\"}}}", TEXTS("1"),
          TEXTS("1.5"));
    check("{\"anyOf\":[{\"properties\":{\"k\":{\"const\":\"a\"},\"v\":{\"const\":1}},\"required\":[\"k\",\"v\"]},"
          "{\"properties\":{\"k\":{\"const\":\"b\"},\"v\":{\"const\":2}},\"required\":[\"k\",\"v\"]}]}",
          TEXTS("{\"k\":\"a\",\"v\":1}", "{\"k\": \"b\", \"v\": 2}"), TEXTS("{\"k\":\"a\",\"v\":2", "{\"k\":\"c"));
}

static void test_notes_change_nothing(void **state)
{
    (void)state;
    check("{\"$schema\":\"s\",\"$id\":\"i\",\"$comment\":\"c\",\"title\":\"t\",\"description\":\"d\",\"default\":3,"
          "\"examples\":[1],"
          "\"deprecated\":true,\"readOnly\":false,\"writeOnly\":false,\"type\":\"null\"}",
          TEXTS("null"), TEXTS("3"));
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *message;
        bora_status status;
    } cases[] = {
        {"", "schema, line 1: not JSON", BORA_E_INVAL},
        {"{\"a\":1,\"a\":2}", "not JSON", BORA_E_INVAL},
        {"{\"const\":\"\\u0000\"}", "not JSON", BORA_E_INVAL},
        {"\xff", "not JSON", BORA_E_INVAL},
        {"3", "at #: a schema is an object", BORA_E_INVAL},
        {"false", "no text fits", BORA_E_INVAL},
        {"{\"oneOf\":[]}", "at #: keyword 'oneOf' is not supported", BORA_E_UNSUPPORTED},
        {"{\"properties\":{\"x\":{\"items\":{\"not\":{}}}}}", "at #/properties/x/items: keyword 'not'",
         BORA_E_UNSUPPORTED},
        {"{\"patternProperties\":{}}", "'patternProperties'", BORA_E_UNSUPPORTED},
        {"{\"minProperties\":1}", "'minProperties'", BORA_E_UNSUPPORTED},
        {"{\"uniqueItems\":true}", "'uniqueItems'", BORA_E_UNSUPPORTED},
        {"{\"prefixItems\":[]}", "'prefixItems'", BORA_E_UNSUPPORTED},
        {"{\"if\":{}}", "'if'", BORA_E_UNSUPPORTED},
        {"{\"format\":\"uri\"}", "format 'uri' is not supported", BORA_E_UNSUPPORTED},
        {"{\"format\":3}", "'format' is not a string", BORA_E_INVAL},
        {"{\"pattern\":3}", "'pattern' is not a string", BORA_E_INVAL},
        {"{\"pattern\":\"a\",\"format\":\"date\"}", "'format' beside 'pattern'", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"a\",\"minLength\":1}", "'minLength' beside 'pattern'", BORA_E_UNSUPPORTED},
        {"{\"format\":\"date\",\"maxLength\":1}", "'maxLength' beside 'format'", BORA_E_UNSUPPORTED},
        {"{\"minLength\":2,\"maxLength\":1}", "'minLength' is over 'maxLength'", BORA_E_INVAL},
        {"{\"minLength\":-1}", "'minLength' is not a whole number", BORA_E_INVAL},
        {"{\"minLength\":1.5}", "'minLength' is not a whole number", BORA_E_INVAL},
        {"{\"maxLength\":99999999999}", "'maxLength' is too large", BORA_E_LIMIT},
        {"{\"minLength\":4000000}", "states", BORA_E_LIMIT},
        {"{\"minItems\":2,\"maxItems\":1}", "'minItems' is over 'maxItems'", BORA_E_INVAL},
        {"{\"maxItems\":4000000}", "states", BORA_E_LIMIT},
        {"{\"items\":[]}", "'items' is not a schema", BORA_E_INVAL},
        {"{\"type\":\"any\"}", "'type' is neither", BORA_E_INVAL},
        {"{\"type\":[]}", "'type' is neither", BORA_E_INVAL},
        {"{\"type\":[\"null\",3]}", "'type' is neither", BORA_E_INVAL},
        {"{\"enum\":[]}", "'enum' is not a list", BORA_E_INVAL},
        {"{\"enum\":[1],\"type\":\"string\"}", "no text fits", BORA_E_INVAL},
        {"{\"enum\":[1],\"minimum\":3}", "'minimum' beside 'enum'", BORA_E_UNSUPPORTED},
        {"{\"anyOf\":[{}],\"minimum\":3}", "'minimum' beside 'anyOf'", BORA_E_UNSUPPORTED},
        {"{\"enum\":[1],\"anyOf\":[{}]}", "'enum' beside 'anyOf'", BORA_E_UNSUPPORTED},
        {"{\"anyOf\":[{}],\"const\":1}", "'const' beside 'anyOf'", BORA_E_UNSUPPORTED},
        {"{\"$ref\":\"#\",\"anyOf\":[]}", "'anyOf' beside '$ref'", BORA_E_UNSUPPORTED},
        {"{\"anyOf\":[]}", "'anyOf' is not a list", BORA_E_INVAL},
        {"{\"allOf\":[{},{}]}", "'allOf' of more than one", BORA_E_UNSUPPORTED},
        {"{\"anyOf\":[3]}", "at #/anyOf/0: a schema is", BORA_E_INVAL},
        {"{\"$ref\":3}", "'$ref' is not a string", BORA_E_INVAL},
        {"{\"$ref\":\"other.json\"}", "'$ref' other than", BORA_E_UNSUPPORTED},
        {"{\"$ref\":\"#name\"}", "'$ref' other than", BORA_E_UNSUPPORTED},
        {"{\"$ref\":\"#/$defs/x\"}", "'$ref' to '#/$defs/x', which is not there", BORA_E_INVAL},
        {"{\"$ref\":\"#/a%\"}", "which is not there", BORA_E_INVAL},
        {"{\"$ref\":\"#/a~2\"}", "which is not there", BORA_E_INVAL},
        {"{\"$ref\":\"#/title\",\"title\":\"x\"}", "at #/title: a schema is", BORA_E_INVAL},
        {"{\"$ref\":\"#\"}", "# begins with itself", BORA_E_INVAL},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#\"}]}", "begins with itself", BORA_E_INVAL},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "no text fits", BORA_E_INVAL},
        {"{\"properties\":3}", "'properties' is not an object", BORA_E_INVAL},
        {"{\"required\":3}", "'required' is not a list", BORA_E_INVAL},
        {"{\"required\":[3]}", "'required' is not a list", BORA_E_INVAL},
        {"{\"properties\":{},\"required\":[\"a\"],\"additionalProperties\":false}",
         "'a' is required, but is no property", BORA_E_INVAL},
        {"{\"additionalProperties\":3}", "'additionalProperties' is neither", BORA_E_INVAL},
        {"{\"minimum\":\"3\"}", "'minimum' is not a number", BORA_E_INVAL},
        {"{\"multipleOf\":0}", "'multipleOf' is not a number over 0", BORA_E_INVAL},
        {"{\"multipleOf\":0.1}", "'multipleOf' other than a whole number", BORA_E_UNSUPPORTED},
        {"{\"multipleOf\":1001}", "'multipleOf' over 1000", BORA_E_UNSUPPORTED},
        {"{\"type\":\"integer\",\"minimum\":1e20}", "'minimum' leaves no integer", BORA_E_LIMIT},
        {"{\"type\":\"integer\",\"maximum\":-2000000000000000000}", "'maximum' leaves no integer", BORA_E_LIMIT},
        {"{\"type\":\"number\",\"minimum\":0.1234567890123456}", "'minimum' of more than 15 digits",
         BORA_E_UNSUPPORTED},
        {"{\"type\":\"number\",\"maximum\":1e20}", "'maximum' of more than 15 digits", BORA_E_UNSUPPORTED},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "no text fits", BORA_E_INVAL},
        {"{\"pattern\":\"(\"}", "pattern, byte 2: a group that does not end", BORA_E_INVAL},
        {"{\"pattern\":\")\"}", "closes nothing", BORA_E_INVAL},
        {"{\"pattern\":\"*\"}", "nothing to repeat", BORA_E_INVAL},
        {"{\"pattern\":\"]\"}", "closes nothing", BORA_E_INVAL},
        {"{\"pattern\":\"[a\"}", "a class that does not end", BORA_E_INVAL},
        {"{\"pattern\":\"[b-a]\"}", "goes backwards", BORA_E_INVAL},
        {"{\"pattern\":\"[a-\\\\d]\"}", "no end of a range", BORA_E_INVAL},
        {"{\"pattern\":\"\\\\\"}", "a backslash at the end", BORA_E_INVAL},
        {"{\"pattern\":\"\\\\u12\"}", "four hexadecimal", BORA_E_INVAL},
        {"{\"pattern\":\"\\\\x1\"}", "two hexadecimal", BORA_E_INVAL},
        {"{\"pattern\":\"\\\\ud800\"}", "half a surrogate", BORA_E_INVAL},
        {"{\"pattern\":\"a{2,1}\"}", "2 at least", BORA_E_INVAL},
        {"{\"pattern\":\"a{x}\"}", "a repetition is", BORA_E_INVAL},
        {"{\"pattern\":\"a{66000}\"}", "more than 65535", BORA_E_LIMIT},
        {"{\"pattern\":\"\\\\bx\"}", "word boundaries", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"\\\\p{L}\"}", "properties of characters", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"(a)\\\\1\"}", "references to groups", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"\\\\k\"}", "this escape", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"(?=a)\"}", "looking ahead", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"(?<!a)\"}", "looking ahead", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"(?<n>a)\"}", "groups with names", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"a^b\"}", "^ and $ other than", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"(^a)\"}", "^ and $ other than", BORA_E_UNSUPPORTED},
        {"{\"pattern\":\"((((((((((((((((((((((((((((((((((\"}", "groups inside each other", BORA_E_LIMIT},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        bora_error err = {{0}};
        bora_grammar *grammar = NULL;
        bora_status st = bora_grammar_from_schema(cases[i].schema, strlen(cases[i].schema), &grammar, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].message) || grammar)
            fail_msg("%s\nsays %d, '%s'", cases[i].schema, st, err.message);
    }
}

/* What is too large or too deep is told so, whatever it is made of. */
static void test_too_much(void **state)
{
    (void)state;
    size_t size = BORA_GRAMMAR_SOURCE_MAX + 1, n = 0;
    char *text = bora_alloc(size);
    bora_grammar *grammar = NULL;
    memset(text, ' ', size);
    assert_int_equal(bora_grammar_from_schema(text, size, &grammar, NULL), BORA_E_LIMIT);
    /* A value of more nesting than any text may have, and one that just fits. */
    for (unsigned depth = 60; depth <= 80; depth += 20) {
        n = (size_t)snprintf(text, size, "{\"const\":");
        memset(text + n, '[', depth);
        memset(text + n + depth, ']', depth);
        text[n + 2 * depth] = '}';
        assert_int_equal(bora_grammar_from_schema(text, n + 2 * depth + 1, &grammar, NULL),
                         depth == 60 ? BORA_OK : BORA_E_LIMIT);
    }
    bora_grammar_unref(grammar);
    grammar = NULL;
    /* More properties than an object may have. */
    n = (size_t)snprintf(text, size, "{\"required\":[\"0\"");
    for (unsigned i = 1; i < 5000; i++)
        n += (size_t)snprintf(text + n, size - n, ",\"%u\"", i);
    n += (size_t)snprintf(text + n, size - n, "]}");
    assert_int_equal(bora_grammar_from_schema(text, n, &grammar, NULL), BORA_E_LIMIT);
    /* A name that is too long. */
    n = (size_t)snprintf(text, size, "{\"properties\":{\"%0*d\":{}}}", 1025, 0);
    assert_int_equal(bora_grammar_from_schema(text, n, &grammar, NULL), BORA_E_LIMIT);
    n = (size_t)snprintf(text, size, "{\"properties\":{\"%0*d\":{}},\"additionalProperties\":true}", 1024, 0);
    assert_int_equal(bora_grammar_from_schema(text, n, &grammar, NULL), BORA_OK);
    bora_grammar_unref(grammar);
    grammar = NULL;
    /* Many names and any others beside them: a few states for each of their characters. */
    n = (size_t)snprintf(text, size, "{\"additionalProperties\":true,\"required\":[\"0 of a few words\"");
    for (unsigned i = 1; i < 1500; i++)
        n += (size_t)snprintf(text + n, size - n, ",\"%u of a few words\"", i);
    n += (size_t)snprintf(text + n, size - n, "]}");
    assert_int_equal(bora_grammar_from_schema(text, n, &grammar, NULL), BORA_OK);
    assert_int_equal(grammar_fit(grammar, "{\"0 of a few words\": 3", 22), FIT_BEGIN);
    bora_grammar_unref(grammar);
    bora_free(text);
}

/* 63 objects around a string: the string's characters are the 64th. */
static void test_depth(void **state)
{
    (void)state;
    bora_grammar *grammar =
        schema_compile("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}]}");
    char text[256];
    for (size_t depth = BORA_GRAMMAR_DEPTH_MAX - 2; depth <= BORA_GRAMMAR_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memcpy(text + depth, "\"a\"", 3);
        memset(text + depth + 3, ']', depth);
        assert_int_equal(grammar_fit(grammar, text, 2 * depth + 3),
                         depth < BORA_GRAMMAR_DEPTH_MAX ? FIT_WHOLE : FIT_NOT);
    }
    bora_grammar_unref(grammar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),   cmocka_unit_test(test_strings),    cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_formats), cmocka_unit_test(test_values),     cmocka_unit_test(test_objects),
        cmocka_unit_test(test_arrays),  cmocka_unit_test(test_references), cmocka_unit_test(test_notes_change_nothing),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_too_much),   cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
