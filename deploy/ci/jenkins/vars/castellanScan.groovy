/*
 * Scans an image, documents that say how containers are built and run, or the
 * commits of a repository, and publishes what is found:
 *
 *   castellanScan image: 'shop:1.4', failOn: 'high'
 *   castellanScan paths: ['infra', 'Dockerfile'], failOn: 'medium'
 *   castellanScan git: '.'
 *
 * what: one of
 * image        what `castellan scan` takes: a name, docker:app, archive:app.tar, dir:. …
 * paths        files and folders for `castellan scan iac`
 * git          a repository, for `castellan scan git`
 *
 * the policy:
 * failOn       stop at this severity or worse (default: high; '' never, or as the
 *              policy file says)
 * onViolation  what the build then is: 'FAILURE' (default), 'UNSTABLE', or 'SUCCESS',
 *              where the caller looks at what is returned
 * onlyFixed    of vulnerabilities, count only what has a fix
 * policy       the policy file
 * baseline     an earlier report in JSON of an image or a repository: it is known
 * newSince     a former report in JSON, or an image: only what is new counts
 * since        of git: only what was brought since this commit, branch or tag
 *
 * how:
 * platform     of an image for several: 'linux/arm64', or 'all'
 * credentials  the id of a user and password of Jenkins, and
 * registry     the host of the registry that they are for
 * saltFrom     the id of a secret text with the salt of secrets' fingerprints
 * timeout      give up after this time, as '15m'
 * args         further options, each a word of the list
 * command      the program (default: castellan, on the agent's PATH)
 *
 * the reports:
 * name         what they are called (default: by what is scanned, without its version:
 *              Jenkins draws its trends by it). Who scans one image twice in a build
 *              gives each call one of its own
 * reports      their folder (default: castellan/NAME)
 * issues       further settings of recordIssues, as [qualityGates: [...]]
 * publish      false: archive only
 *
 * Returns whether the policy holds. What the plugins Warnings, JUnit and HTML
 * Publisher would show is archived in any case; one that is not there is left out.
 * The agent must be one with a shell: Linux or macOS.
 */
def call(Map given = [:]) {
    Map o = checked(given)
    List words = commandOf(o)
    int status = 0
    withSecrets(o) {
        status = sh(label: "castellan scan ${what(o)}", returnStatus: true, script: scriptOf(o, words))
    }
    if (status == 64) {
        error "castellanScan: ${o.reports} has the reports of another scan of this build: give each call a name of its own"
    }
    if (status != 0 && status != 3) {
        error "castellan could not scan ${what(o)}: exit code ${status}, see above"
    }
    publish(o)
    if (status == 3) {
        String text = "castellan: ${what(o)} violates the policy"
        if (o.onViolation == 'FAILURE') {
            error text
        } else if (o.onViolation == 'UNSTABLE') {
            unstable text
        } else {
            echo text
        }
    }
    return status == 0
}

/* Makes the folder, which a scan has for itself in a build, also beside parallel
 * ones; what an earlier build left there is no report of this one. */
private String scriptOf(Map o, List words) {
    String folder = quoted(o.reports)
    List shown = []
    for (word in words) {
        shown += quoted(word)
    }
    return """set +x
mkdir -p ${folder} || exit 1
if [ -n "\${BUILD_TAG:-}" ] && [ "\$(cat ${folder}/.build 2>/dev/null)" = "\$BUILD_TAG" ]; then exit 64; fi
rm -f ${folder}/report.* ${folder}/junit.xml
printf %s "\${BUILD_TAG:-}" > ${folder}/.build
code=0
${shown.join(' ')} || code=\$?
case \$code in 0 | 3) ;; *) rm -f ${folder}/.build ;; esac # it may be tried again
exit \$code
"""
}

private Map checked(Map given) {
    Map o = [image: '', paths: [], git: '', failOn: 'high', onViolation: 'FAILURE', onlyFixed: false, policy: '', baseline: '', newSince: '', since: '',
        platform: '', credentials: '', registry: '', saltFrom: '', timeout: '', args: [], command: 'castellan', name: '', reports: '', issues: [:], publish: true]
    def unknown = given.keySet() - o.keySet() - ['unstable']
    if (unknown) {
        error "castellanScan: unknown ${unknown.join(', ')}"
    }
    o += given
    if (o.paths instanceof CharSequence) {
        o.paths = [o.paths]
    }
    if ((o.image ? 1 : 0) + (o.paths ? 1 : 0) + (o.git ? 1 : 0) != 1) {
        error 'castellanScan: give one of image, paths and git'
    }
    if (given.unstable) { // as it was called before
        o.onViolation = 'UNSTABLE'
    }
    if (!(o.onViolation in ['FAILURE', 'UNSTABLE', 'SUCCESS'])) {
        error "castellanScan: onViolation ${o.onViolation}: want FAILURE, UNSTABLE or SUCCESS"
    }
    if (!o.credentials != !o.registry) {
        error 'castellanScan: credentials and registry go together: a password is sent to the registry that it is for and to no other'
    }
    if (!isUnix()) {
        error 'castellanScan: the agent must be one of Linux or macOS'
    }
    o.name = o.name ?: nameOf(o)
    o.reports = o.reports ?: 'castellan/' + o.name.replaceAll('[^A-Za-z0-9._-]+', '-')
    return o
}

private List commandOf(Map o) {
    List words = [o.command, 'scan'] + (o.image ? [] : o.git ? ['git'] : ['iac'])
    words += ['--fail-on', o.failOn, '--policy', o.policy, '--category', 'castellan/' + o.name]
    if (o.image) {
        words += ['--platform', o.platform]
        if (o.onlyFixed) {
            words += ['--only-fixed']
        }
    }
    if (o.baseline) {
        words += ['--baseline', o.baseline]
    }
    if (o.newSince) {
        words += ['--new-since', o.newSince]
    }
    if (o.since) {
        words += ['--since', o.since]
    }
    if (o.timeout) {
        words += ['--timeout', o.timeout]
    }
    words += o.args
    words += ['-o', 'table', '-o', "json=${o.reports}/report.json", '-o', "sarif-github=${o.reports}/report.sarif"]
    words += ['-o', "junit=${o.reports}/junit.xml", '-o', "html=${o.reports}/report.html"]
    return words + ['--'] + (o.image ? [o.image] : o.git ? [o.git] : o.paths) // what begins with a dash is no option
}

/* Gives the program what nobody may see: by its environment, which Jenkins masks. */
private void withSecrets(Map o, Closure body) {
    List bindings = []
    if (o.credentials) {
        bindings += usernamePassword(credentialsId: o.credentials, usernameVariable: 'CASTELLAN_REGISTRY_USER', passwordVariable: 'CASTELLAN_REGISTRY_PASSWORD')
    }
    if (o.saltFrom) {
        bindings += string(credentialsId: o.saltFrom, variable: 'CASTELLAN_SECRET_SALT')
    }
    if (!bindings) {
        body()
        return
    }
    withCredentials(bindings) {
        withEnv(o.registry ? ["CASTELLAN_REGISTRY_HOST=${o.registry}"] : []) {
            body()
        }
    }
}

private String what(Map o) {
    if (o.git) {
        return "the commits of ${o.git}"
    }
    return o.image ?: o.paths.join(', ')
}

/* What a report is called: the image without its version, so that the next build's
 * report is one of the same. */
private String nameOf(Map o) {
    if (o.git) {
        return 'git'
    }
    if (!o.image) {
        return o.paths == ['.'] ? 'iac' : 'iac ' + o.paths.join(' ')
    }
    String name = o.image.toString().replaceFirst('^(registry|docker|archive|oci|dir|root|task|sbom):', '').replaceFirst('@.*$', '')
    name = name.replaceFirst(':[^:/]*$', '')
    name = name.replaceFirst('^(localhost|[^/]*[.:][^/]*)/', '') // the registry's host
    return name in ['', '.', '-'] ? 'image' : name
}

/* A word as the shell takes it for itself, whatever is in it. */
private String quoted(Object word) {
    return "'" + word.toString().replace("'", "'\\''") + "'"
}

/* What plugins know a report by: two of the same name in one build are refused, or
 * the second takes the place of the first. */
private String idOf(String name) {
    return ('castellan-' + name.replaceAll('[^A-Za-z0-9._-]+', '-')).toLowerCase()
}

private void publish(Map o) {
    String name = 'Castellan ' + o.name
    archiveArtifacts artifacts: "${o.reports}/report.*,${o.reports}/junit.xml", allowEmptyArchive: true
    if (!o.publish) {
        return
    }
    optional('Warnings') {
        recordIssues([enabledForFailure: true, tool: sarif(id: idOf(o.name), name: name, pattern: "${o.reports}/report.sarif")] + o.issues)
    }
    optional('JUnit') {
        junit testResults: "${o.reports}/junit.xml", allowEmptyResults: true, skipMarkingBuildUnstable: true
    }
    optional('HTML Publisher') {
        publishHTML target: [reportName: name, reportDir: o.reports, reportFiles: 'report.html', keepAll: true, alwaysLinkToLastBuild: true, allowMissing: true]
    }
}

private void optional(String plugin, Closure step) {
    try {
        step()
    } catch (NoSuchMethodError missing) {
        echo "castellan: the plugin ${plugin} is not installed, so its report is not shown"
    }
}
