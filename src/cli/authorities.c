#include "cli/authorities.h"

#include <sys/stat.h>

#include "base/text.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/settings.h"
#include "cli/table.h"

void authorities_refresh(struct cli *cli, int64_t age_s)
{
    CLEANUP_FREE char *path = settings_ca_path();
    struct stat st;
    struct error ignored;
    if (!cli->fetched_ca || !cli->api || !text_has_prefix(api_address(cli->api), "https://") || !path || stat(path, &st))
        return;
    int64_t age = time_now_ms() / 1000 - st.st_mtime;
    if (age >= 0 && age < age_s)
        return;
    CLEANUP(json_decref) json_t *bundle = api_get(cli->api, "/v1/ca", &ignored);
    if (bundle && *json_text(bundle, "certificates"))
        settings_save_ca(json_text(bundle, "certificates"), &ignored);
}
