/*
 * Scans an image, or documents that say how containers are built and run, and
 * publishes what is found:
 *
 *   castellanScan image: 'shop:1.4', failOn: 'high'
 *   castellanScan paths: ['infra', 'Dockerfile'], failOn: 'medium'
 *
 * image      what `castellan scan` takes: a name, archive:app.tar, oci:layout …
 * paths      files and folders for `castellan scan iac`, instead of an image
 * failOn     stop the build at this severity or worse (default: high; '' never stops)
 * onlyFixed  of vulnerabilities, count only what has a fix
 * policy     the policy file
 * newSince   a former report in JSON, or an image: only what is new counts
 * unstable   mark the build unstable instead of stopping it
 * command    the program (default: castellan, on the agent's PATH)
 * reports    folder for the reports (default: castellan/image or castellan/iac);
 *            who calls it more than once for either gives each call one of its own
 *
 * Returns whether the policy holds. What the plugins Warnings, JUnit and HTML
 * Publisher would show is archived in any case; one that is not there is left out.
 */
def call(Map given = [:]) {
    Map o = [image: '', paths: [], failOn: 'high', onlyFixed: false, policy: '', newSince: '', unstable: false, command: 'castellan', reports: given.image ? 'castellan/image' : 'castellan/iac'] + given
    def unknown = given.keySet() - ['image', 'paths', 'failOn', 'onlyFixed', 'policy', 'newSince', 'unstable', 'command', 'reports']
    if (unknown) {
        error "castellanScan: unknown ${unknown.join(', ')}"
    }
    if (!o.image == !o.paths) {
        error 'castellanScan: give an image or paths'
    }
    List words = [o.command, 'scan'] + (o.image ? [] : ['iac'])
    words += ['--fail-on', o.failOn, '--policy', o.policy, '--new-since', o.newSince]
    if (o.onlyFixed && o.image) {
        words += ['--only-fixed']
    }
    words += ['-o', 'table', '-o', "json=${o.reports}/report.json", '-o', "sarif=${o.reports}/report.sarif"]
    words += ['-o', "junit=${o.reports}/junit.xml", '-o', "html=${o.reports}/report.html"]
    words += ['--'] + (o.image ? [o.image] : o.paths) // what begins with a dash is no option

    int status = sh(label: "castellan scan ${o.image ?: o.paths.join(' ')}", returnStatus: true,
        script: "mkdir -p ${quoted(o.reports)} && " + words.collect { quoted(it) }.join(' '))
    if (status != 0 && status != 3) {
        error "castellan could not scan: exit code ${status}"
    }
    publish(o.reports)
    if (status == 3) {
        String text = "castellan: ${o.image ?: o.paths.join(', ')} violates the policy"
        if (o.unstable) {
            unstable text
        } else {
            error text
        }
    }
    return status == 0
}

/* A word as the shell takes it for itself, whatever is in it. */
private String quoted(Object word) {
    return "'" + word.toString().replace("'", "'\\''") + "'"
}

/* What plugins know a report by: two of the same name in one build are refused, or
 * the second takes the place of the first. */
private String idOf(String reports) {
    return reports.replaceAll('[^A-Za-z0-9._-]+', '-')
}

private void publish(String reports) {
    String id = idOf(reports)
    String name = 'Castellan ' + id.replaceFirst('^castellan-', '')
    archiveArtifacts artifacts: "${reports}/*", allowEmptyArchive: true
    optional('Warnings') {
        recordIssues enabledForFailure: true, tool: sarif(id: id, name: name, pattern: "${reports}/report.sarif")
    }
    optional('JUnit') {
        junit testResults: "${reports}/junit.xml", allowEmptyResults: true, skipMarkingBuildUnstable: true
    }
    optional('HTML Publisher') {
        publishHTML target: [reportName: name, reportDir: reports, reportFiles: 'report.html', keepAll: true, alwaysLinkToLastBuild: true, allowMissing: true]
    }
}

private void optional(String plugin, Closure step) {
    try {
        step()
    } catch (NoSuchMethodError missing) {
        echo "castellan: the plugin ${plugin} is not installed, so its report is not shown"
    }
}
