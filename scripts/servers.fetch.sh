# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables for, and of, the script that sources this
# Sourced by scripts/servers and scripts/bench: where the programs of PostgreSQL, Kafka and Debezium come from. What is
# pinned is in tests/servers/pom.xml; downloads and unpacked servers stay in the cache directory for the next run.

servers_pom=$root/tests/servers/pom.xml
cache=$(cache_dir)

# Sets postgres_bin, the directory of `initdb` and `postgres`, and server_user, the user they run as if not this one.
find_postgres() {
    postgres_bin=''
    if [[ $postgres_version == any ]]; then
        postgres_bin=$(installed_postgres)
        [[ -n $postgres_bin ]] || postgres_without_a_wish
    else
        from_maven "postgres-$postgres_version" || fail "could not fetch PostgreSQL $postgres_version"
        postgres_bin=$fetched/bin
    fi
    # PostgreSQL refuses to run as root.
    if [[ $EUID -eq 0 ]]; then
        server_user=postgres
        id -u postgres >/dev/null 2>&1 || server_user=nobody
        setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --init-groups -- test -x "$postgres_bin/initdb" ||
            fail "user $server_user, which runs PostgreSQL, cannot reach $postgres_bin" \
                "set OUTBOX_TEST_CACHE to a directory that everybody may read"
    fi
    say "PostgreSQL: $("$postgres_bin/postgres" --version | sed 's/.*) \([0-9.]*\).*/\1/') from $postgres_bin"
}

# The newest PostgreSQL on this machine that the relay works with, or nothing.
installed_postgres() {
    local bin version
    {
        ! command -v postgres >/dev/null || dirname "$(readlink -f "$(command -v postgres)")"
        printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse
    } | while read -r bin; do
        [[ -x $bin/postgres && -x $bin/initdb ]] || continue
        version=$("$bin/postgres" --version | sed 's/.*) \([0-9]*\).*/\1/')
        if ((version >= 14)); then
            printf '%s' "$bin"
            break
        fi
    done
}

postgres_without_a_wish() {
    if command -v mvn >/dev/null || [[ $EUID -eq 0 ]]; then
        if from_maven postgres-17; then
            postgres_bin=$fetched/bin
            return
        fi
        say "Maven could not fetch PostgreSQL"
    fi
    need postgres=postgresql
    postgres_bin=$(installed_postgres)
    [[ -n $postgres_bin ]] || fail "found no PostgreSQL 14 or later" "install one, or Maven, which can fetch one"
}

# Sets kafka_jars, the directory of the broker's class path.
find_kafka() {
    need java=default-jre-headless
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    ((version >= 17)) || fail "java is version $version; Kafka needs 17 or later"
    from_maven kafka || fail "could not fetch Kafka"
    kafka_jars=$fetched
}

# Sets debezium_plugins, a directory for Kafka Connect's plugin.path. Kafka Connect itself is among the broker's jars.
find_debezium() {
    from_maven debezium || fail "could not fetch Debezium" "leave --peers out to measure without it"
    debezium_plugins=$fetched
}

# from_maven PROFILE: sets `fetched` to the directory with the programs of a profile of the pom, downloading them once.
# Returns 1 if that fails. The directory's name has a checksum of the pom, so a changed version is fetched anew.
from_maven() {
    fetched=$cache/$1-$(cksum <"$servers_pom" | cut -d' ' -f1)
    [[ ! -d $fetched ]] || return 0
    need mvn=maven xz=xz-utils
    mkdir -p "$cache" || return 1
    # Runs side by side fetch one after the other: Maven's repository is not made for several writers.
    (
        umask 022
        flock 9 || exit 1
        [[ ! -d $fetched ]] || exit 0
        say "fetching $1 (Maven) into $cache"
        rm -rf "$cache"/fetch.* # of a run that was killed
        work=$(mktemp -d "$cache/fetch.XXXXXX") || exit 1
        unpack_from_maven "$1" "$work" || exit 1
        chmod 755 "$work/programs" && mv "$work/programs" "$fetched" && rm -rf "$work"
    ) 9>"$cache/lock"
}

unpack_from_maven() {
    local profile=$1 work=$2 goal=unpack-dependencies arch=amd64
    [[ $profile != kafka ]] || goal=copy-dependencies
    [[ $(uname -m) != aarch64 ]] || arch=arm64v8
    # Maven writes beside the pom; the checkout stays as it is.
    cp "$servers_pom" "$work/pom.xml" || return 1
    mvn --batch-mode -f "$work/pom.xml" -P "$profile" "-Dpostgres.arch=$arch" "-Dmaven.repo.local=$cache/maven" \
        -Dstyle.color=never "dependency:$goal" -DincludeScope=runtime "-DoutputDirectory=$work/jars" \
        </dev/null >"$work/log" 2>&1 || {
        grep -E '^\[ERROR\]' "$work/log" | head -n 5 >&2
        return 1
    }
    if [[ $profile == postgres-* ]]; then
        mkdir "$work/programs" && tar -xJf "$work"/jars/*.txz -C "$work/programs" --no-same-owner
    else
        mv "$work/jars" "$work/programs"
    fi
}
