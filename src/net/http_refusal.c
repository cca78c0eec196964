#include <jansson.h>

#include "net/http_client.h"

void http_refusal(int status, const struct buf *body, struct error *err)
{
    json_t *root = json_loadb(body->data ? body->data : "", body->len, 0, NULL);
    const json_t *e = json_object_get(root, "error");
    const char *code = json_string_value(json_object_get(e, "code")), *text = json_string_value(json_object_get(e, "message"));
    error_set(err, code ? error_code_from_name(code) : error_code_from_http_status(status), "%s",
              text ? text : http_status_text(status));
    json_decref(root);
}
