#include <stdio.h>

#include "cli/commands.h"
#include "cli/help.h"

static int run(struct cli *cli)
{
    CLEANUP_BUF struct buf out = {0};
    if (help_completion(cli_operand(cli, 0), &out)) {
        fprintf(stderr, "mt completion: there is no script for \"%.64s\"; it is bash, zsh or fish\n", cli_operand(cli, 0));
        return STATUS_USAGE;
    }
    fwrite(out.data, 1, out.len, stdout);
    return STATUS_DONE;
}

const struct command_row cmd_completion = {
    .name = "completion", .operands = "bash|zsh|fish", .min = 1, .max = 1, .kind = OPERAND_SHELL, .run = run,
    .summary = "print the completion script of a shell",
    .help = "  bash: source <(mt completion bash)\n  zsh:  source <(mt completion zsh)      (after compinit)\n"
            "  fish: mt completion fish > ~/.config/fish/completions/mt.fish",
};
