/*
 * Linked into the static zeroauth-audit. A static program of glibc loads the modules that /etc/nsswitch.conf names for hosts,
 * and crashes if the system's glibc is not the one it was linked with. These two are part of it, so it loads none.
 */
#include <nss.h>

__attribute__((constructor)) static void look_hosts_up_without_modules(void)
{
    __nss_configure_lookup("hosts", "files dns");
}
