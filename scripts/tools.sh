# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables for, and of, the script that sources this
# Sourced by the scripts beside it: how they speak, what they need from the machine, where downloads are kept.

# Everything a script says about its own work goes to stderr: stdout belongs to results.
if [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' dim='' red='' plain=''
fi

say() { printf '%s\n' "${dim}$*${plain}" >&2; }

# fail MESSAGE [HINT]
fail() {
    printf '%s\n' "${red}error:${plain} $1" >&2
    [[ -z ${2:-} ]] || printf '\nhint: %s\n' "$2" >&2
    exit 1
}

# need COMMAND=PACKAGE...: each command is there afterwards, or the script ends saying what to install.
need() {
    local pair commands=() packages=()
    for pair; do
        command -v "${pair%%=*}" >/dev/null && continue
        commands+=("${pair%%=*}")
        # One package may hold several of the commands.
        [[ " ${packages[*]} " == *" ${pair#*=} "* ]] || packages+=("${pair#*=}")
    done
    [[ ${#packages[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null ||
        fail "not found: ${commands[*]}" "install them; in Debian they are in ${packages[*]}"
    [[ $EUID -eq 0 ]] ||
        fail "not found: ${commands[*]}" "as root: apt-get update && apt-get install -y ${packages[*]}"
    install_packages "${packages[@]}"
}

# install_packages PACKAGE...: through apt, as root, without questions, silent unless it fails.
install_packages() {
    say "installing $* (apt)"
    local log
    log=$(mktemp)
    if ! {
        apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    } </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $*"
    fi
    rm -f "$log"
    hash -r
}

# What it takes to compile the relay: librdkafka and OpenSSL are built from source.
need_build_tools() {
    need cc=build-essential c++=build-essential make=build-essential cmake=cmake perl=perl
    command -v cargo >/dev/null ||
        fail "not found: cargo" "install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml") or later with rustup"
}

# Downloads and unpacked servers. Not below root's home, which the user that PostgreSQL runs as cannot read.
cache_dir() {
    if [[ -n ${OUTBOX_TEST_CACHE:-} ]]; then
        printf '%s' "$OUTBOX_TEST_CACHE"
    elif [[ $EUID -eq 0 ]]; then
        printf '/var/cache/outbox-relay'
    else
        printf '%s' "${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/outbox-relay"
    fi
}
