#include "test_server.h"

int main(void)
{
    return test_queue() + test_routes() + test_filter() + test_identity() + test_rates() + test_seal();
}
