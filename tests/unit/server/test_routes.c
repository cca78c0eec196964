#include "test_server.h"

#include <jansson.h>
#include <string.h>

#include "server/route.h"

static const struct route *find(enum http_method method, const char *path, const char **params, char **allow,
                                struct error *err)
{
    static char copy[256];               /* parameters point into it */
    char *segments[16], *rest = copy + 1;
    size_t n = 0;
    strcpy(copy, path);
    for (char *part; (part = strsep(&rest, "/"));)
        segments[n++] = part;
    return route_find(method, segments, n, params, allow, err);
}

static void each_route_names_a_right_and_explains_itself(void **state)
{
    for (size_t i = 0; i < route_count; i++) {
        const struct route *r = &routes[i];
        assert_true(r->right > RIGHT_UNSET && r->right < RIGHT_COUNT);
        assert_true(r->help && strlen(r->help) > 10);
        assert_int_equal(strncmp(r->path, "/v1/", 4), 0);
        assert_true(r->prepare || r->read || r->write || r->run);
        assert_true(!!r->read + !!r->write + !!r->run <= 1);
        assert_true(r->body != BODY_NONE || !r->request);
        /* Agents' routes are the agents' alone. */
        assert_int_equal(!strncmp(r->path, "/v1/agent/", 10), r->right == RIGHT_AGENT);
        /* Only reads may be sent without the right to change something. */
        bool asks_itself = !strcmp(r->path, "/v1/plan") || !strcmp(r->path, "/v1/certificates");
        if (r->method != HTTP_METHOD_GET && !asks_itself)
            assert_true(r->right != RIGHT_READ && r->right != RIGHT_LOGS && r->right != RIGHT_PUBLIC && r->right != RIGHT_SELF);
        /* A right that can be narrowed to namespaces or services is asked about them; what has none says so by its path. */
        bool is_namespaces = !strcmp(r->path, "/v1/namespaces");      /* which asks about each by itself */
        bool about_services = strncmp(r->path, "/v1/nodes", 9) && strncmp(r->path, "/v1/cluster", 11) && strncmp(r->path, "/v1/ca", 6) &&
                              strncmp(r->path, "/v1/policy", 10) && strncmp(r->path, "/v1/metrics", 11);
        bool adopts = r->right == RIGHT_ADOPT && r->scope == SCOPE_BODY;      /* for the sake of the job's namespace */
        assert_int_equal(rights[r->right].on != ON_CLUSTER && about_services && !is_namespaces, r->scope != SCOPE_NONE && !adopts);
    }
}

static void no_route_stands_twice(void **state)
{
    for (size_t i = 0; i < route_count; i++)
        for (size_t j = 0; j < i; j++)
            assert_false(routes[i].method == routes[j].method && !strcmp(routes[i].path, routes[j].path));
}

static void a_route_is_found_with_its_parameters(void **state)
{
    const char *params[ROUTE_PARAM_MAX] = {NULL};
    char *allow;
    struct error err = {0};
    const struct route *r = find(HTTP_METHOD_POST, "/v1/services/web/scale", params, &allow, &err);
    assert_non_null(r);
    assert_string_equal(r->path, "/v1/services/{service}/scale");
    assert_string_equal(params[0], "web");
    assert_null(allow);
    assert_non_null(find(HTTP_METHOD_HEAD, "/v1/nodes", params, &allow, &err));
}

static void a_wrong_method_is_told_what_the_path_has(void **state)
{
    const char *params[ROUTE_PARAM_MAX];
    char *allow;
    struct error err = {0};
    assert_null(find(HTTP_METHOD_DELETE, "/v1/jobs", params, &allow, &err));
    assert_string_equal(allow, "GET, POST");
    assert_non_null(strstr(err.text, "GET, POST"));
    free(allow);
}

static void an_unknown_path_is_told_what_is_near(void **state)
{
    const char *params[ROUTE_PARAM_MAX];
    char *allow;
    struct error err = {0};
    static const char *const paths[] = {"/", "/v2/jobs", "/v1/jobs/", "/v1/job", "/v1/services/web/scale/3",
                                        "/v1//versions"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        assert_null(find(HTTP_METHOD_GET, paths[i], params, &allow, &err));
        assert_null(allow);
        assert_int_equal(err.code, ERROR_NOT_FOUND);
    }
    find(HTTP_METHOD_GET, "/v1/services/web/skale", params, &allow, &err);
    assert_non_null(strstr(err.text, "/v1/services/{service}"));
}

static void an_unknown_query_parameter_is_refused_with_the_known_ones(void **state)
{
    const char *params[ROUTE_PARAM_MAX];
    char *allow;
    struct error err = {0};
    const struct route *r = find(HTTP_METHOD_GET, "/v1/allocs", params, &allow, &err);
    struct http_header item = {"sevice", "web"};
    struct http_headers query = {.items = &item, .count = 1};
    assert_int_equal(route_check_query(r, &query, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.text, "service, node, namespace, prefix, limit, cursor, filter, index, wait, consistency"));
    item.name = "service";
    assert_int_equal(route_check_query(r, &query, &err), 0);
    r = find(HTTP_METHOD_GET, "/v1/agent/allocs", params, &allow, &err);
    query.count = 0;
    assert_int_equal(route_check_query(r, &query, &err), -1);
    assert_non_null(strstr(err.text, "\"node\" is needed"));
}

static void operators_and_agents_have_their_own_rights(void **state)
{
    struct error err = {0};
    struct identity operator = {.kind = IDENTITY_LOCAL, .name = "operator"};
    struct identity agent = {.kind = IDENTITY_AGENT, .name = "agent"}, nobody = {.kind = IDENTITY_NOBODY};
    assert_int_equal(identity_check(&operator, RIGHT_SUBMIT, &err), 0);
    assert_int_equal(identity_check(&operator, RIGHT_AGENT, &err), -1);
    assert_int_equal(err.code, ERROR_DENIED);
    assert_int_equal(identity_check(&agent, RIGHT_AGENT, &err), 0);
    assert_int_equal(identity_check(&agent, RIGHT_SUBMIT, &err), -1);
    assert_int_equal(identity_check(&nobody, RIGHT_READ, &err), -1);
    assert_int_equal(err.code, ERROR_UNAUTHENTICATED);
    assert_int_equal(identity_check(&nobody, RIGHT_PUBLIC, &err), 0);
    assert_int_equal(identity_check(&operator, RIGHT_UNSET, &err), -1);
}

static void check_refs(json_t *v, json_t *schemas)
{
    if (json_is_array(v))
        for (size_t i = 0; i < json_array_size(v); i++)
            check_refs(json_array_get(v, i), schemas);
    if (!json_is_object(v))
        return;
    const char *ref = json_string_value(json_object_get(v, "$ref"));
    if (ref) {
        assert_int_equal(strncmp(ref, "#/components/schemas/", 21), 0);
        assert_non_null(json_object_get(schemas, ref + 21));
    }
    for (void *i = json_object_iter(v); i; i = json_object_iter_next(v, i))
        check_refs(json_object_iter_value(i), schemas);
}

static void openapi_describes_each_route_and_every_reference_leads_somewhere(void **state)
{
    struct buf text = {0};
    route_openapi(&text);
    json_t *document = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    assert_string_equal(json_string_value(json_object_get(document, "openapi")), "3.1.0");
    size_t operations = 0;
    json_t *paths = json_object_get(document, "paths");
    for (void *i = json_object_iter(paths); i; i = json_object_iter_next(paths, i))
        operations += json_object_size(json_object_iter_value(i));
    assert_int_equal(operations, route_count);
    json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    assert_non_null(json_object_get(schemas, "service"));
    check_refs(document, schemas);
    json_decref(document);
    buf_free(&text);
}

static void the_markdown_names_each_route(void **state)
{
    struct buf text = {0};
    route_markdown(&text);
    for (size_t i = 0; i < route_count; i++)
        assert_non_null(strstr(text.data, routes[i].path));
    buf_free(&text);
}

int test_routes(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_route_names_a_right_and_explains_itself),
        cmocka_unit_test(no_route_stands_twice),
        cmocka_unit_test(a_route_is_found_with_its_parameters),
        cmocka_unit_test(a_wrong_method_is_told_what_the_path_has),
        cmocka_unit_test(an_unknown_path_is_told_what_is_near),
        cmocka_unit_test(an_unknown_query_parameter_is_refused_with_the_known_ones),
        cmocka_unit_test(operators_and_agents_have_their_own_rights),
        cmocka_unit_test(openapi_describes_each_route_and_every_reference_leads_somewhere),
        cmocka_unit_test(the_markdown_names_each_route),
    };
    return cmocka_run_group_tests_name("routes", tests, NULL, NULL);
}
