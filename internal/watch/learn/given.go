package learn

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// StandardInput stands among the loads of an interpreter for what it reads from its
// standard input and runs.
const StandardInput = "/dev/stdin"

// maxGiven bounds what one exec tells of code that an interpreter was given.
const maxGiven = 16

// Loads returns the code that an interpreter was given besides the file of Script: files
// and folders that it loads by its options, by its environment or by a module that
// runs them, scripts of those that no host knows, and StandardInput. Paths are absolute;
// of an archive on a class path it is the folder. No host refuses these: they are told
// alone. Modules that a script loads by itself are not known here.
func Loads(e *event.Event) []string {
	x := e.Exec
	if x == nil {
		return nil
	}
	var list []string
	script := Script(e)
	note := func(p string) {
		if p != "" && p != script && len(list) < maxGiven && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	name, args := path.Base(e.Process.Executable), x.Args
	if Loader(name) { // the program that it runs may be an interpreter
		if args = behind(args); len(args) > 0 {
			name = path.Base(args[0])
		}
	}
	kind, args := invoked(name, args)
	g := given{kind: kind, cwd: x.Cwd, note: func(p string) { note(strings.ReplaceAll(absolute(x.Cwd, p), "*", "?")) }} // no pattern
	if !executedItself(e) {                                                                                             // the options of one that was are in its first line, and its arguments are data
		g.read(args)
	}
	g.environment(x.Environment)
	if g.input && !x.ArgsTruncated && len(x.Stdio) > 0 && brings(x.Stdio[0].Kind) {
		note(StandardInput)
	}
	return list
}

// brings reports whether a program can come by such an input.
func brings(k event.StreamKind) bool {
	switch k {
	case event.StreamUnknown, event.StreamNone, event.StreamNull, event.StreamFolder, event.StreamDevice:
		return false
	}
	return true
}

// told are interpreters whose scripts no host refuses. Of lonely ones what stands alone
// is no code.
var told = map[string]interpreting{
	"fish": {inside: "c", valued: "Co"}, "csh": {inside: "c"}, "tcsh": {inside: "c"}, "mksh": {inside: "c", valued: "oT", plus: true},
	"lksh": {inside: "c", valued: "oT", plus: true}, "yash": {inside: "c", valued: "o", plus: true}, "rbash": interpreters["bash"],
	"pypy": interpreters["python"], "php-cgi": {valued: "dczT", file: "f", longFile: "file"},
	"expect": {valued: "cD", file: "f"}, "wish": {}, "guile": {inside: "c", valued: "LCxel", file: "s"},
	"Rscript": {inside: "e"}, "R": {inside: "e", file: "f", longFile: "file", lonely: true}, "julia": {inside: "eE", valued: "JHLptC"},
	"mono": {}, "escript": {}, "elixir": {inside: "e", valued: "rS"}, "ocaml": {valued: "Iw"}, "jshell": {},
	"make": {file: "f", lonely: true}, "gmake": {file: "f", lonely: true},
	"deno": ofWords, "bun": ofWords, "dotnet": ofWords, "pwsh": ofWords, "gdb": ofWords, "emacs": ofWords,
	"vim": ofWords, "vim.basic": ofWords, "vim.tiny": ofWords, "vim.nox": ofWords, "nvim": ofWords,
}

var ofWords = interpreting{words: true, lonely: true}

// loading names options whose value is code that is loaded besides the script: with one
// dash, or two where they have more letters.
var loading = map[string]string{
	"bash": "rcfile init-file", "rbash": "rcfile init-file", "python": "", "perl": "I", "ruby": "I r", "php": "c t z php-ini zend-extension", "php-cgi": "c z",
	"node": ofNodes, "nodejs": ofNodes,
	"awk": "f i file include", "gawk": "f i E file include exec", "mawk": "f file", "guile": "L C l", "julia": "L J", "elixir": "r", "ocaml": "I",
	"gdb": "x command ix init-command iex", "vim": ofVim, "vim.basic": ofVim, "vim.tiny": ofVim, "vim.nox": ofVim, "nvim": "S u l", "emacs": "l load script", "make": "f file makefile", "gmake": "f file makefile",
	"deno": "preload import", "bun": "preload require r", "pwsh": "File f",
}

const ofNodes = "r require import loader experimental-loader snapshot-blob env-file env-file-if-exists" // which can hold NODE_OPTIONS

const ofVim = "S u"

// given collects what an interpreter was given besides its script.
type given struct {
	kind, cwd string
	note      func(string) // takes one file or folder
	input     bool         // what comes by standard input runs
	text      bool         // what runs stands in an argument, or is asked for by others
}

func (g *given) how() (how interpreting, known bool) {
	if how, known = interpreters[g.kind]; !known {
		how, known = told[g.kind]
	}
	return how, known
}

// read looks at arguments, up to the script.
func (g *given) read(args []string) {
	how, known := g.how()
	if !known || len(args) == 0 {
		return
	}
	if g.kind == "java" {
		g.java(args[1:])
		return
	}
	for i := 1; i < len(args); i++ {
		a, next := args[i], ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		took := g.option(&how, a, next)
		if g.isShell() && strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.Contains(a, "s") {
			g.input = true // sh -s: what follows are arguments
			return
		}
		if g.asks(a) {
			return
		}
		file, then := how.argument(g.kind, a)
		switch then {
		case hasNone:
			g.input = a == "-"
			g.module(&how, a, args[i+1:])
			return
		case isScript:
			g.note(file)
			return
		case takeNext:
			g.note(next)
			if !how.lonely {
				return
			}
			i++
		case skipNext:
			i++
		}
		if how.words && took {
			i++
		}
		if how.lonely && !strings.HasPrefix(a, "-") && g.alone(a) {
			return
		}
	}
	g.input = !how.lonely && !g.text
}

// asks reports whether an interpreter is only to say something of itself. To shells the
// letters are other options.
func (g *given) asks(a string) bool {
	switch a {
	case "--version", "--help":
		return true
	case "-V", "-h":
		return !g.isShell()
	case "-v":
		return g.kind == "perl" || g.kind == "php" || cmp.Or(family[g.kind], g.kind) == "node"
	case "-i", "-m", "--ini":
		return g.kind == "php"
	case "--test", "--run", "--v8-options":
		return cmp.Or(family[g.kind], g.kind) == "node"
	}
	return g.kind == "perl" && strings.HasPrefix(a, "-V")
}

// alone looks at an argument that is no option, of programs that have words of their
// own before what they run; done is true when what follows is for that.
func (g *given) alone(a string) (done bool) {
	switch g.kind {
	case "deno", "bun", "pwsh":
		switch path.Ext(a) {
		case ".js", ".ts", ".mjs", ".mts", ".cjs", ".cts", ".jsx", ".tsx", ".ps1":
			g.note(a)
			return true
		}
	case "dotnet":
		if ext := path.Ext(a); ext == ".dll" || ext == ".exe" {
			g.note(a)
			return true
		}
	}
	return false
}

// option notes code that is the value of an option; next tells that this is the next
// argument.
func (g *given) option(how *interpreting, a, after string) (next bool) {
	name, value := how.value(a, after)
	if !strings.HasPrefix(a, "-") || value == "" {
		return false
	}
	switch by := cmp.Or(family[g.kind], g.kind); {
	case by == "lua" && name == "e", by == "expect" && name == "c", by == "php" && name == "S":
		g.text = true
	case slices.Contains(strings.Fields(loading[g.kind]), name):
		g.loaded(name, value)
		return value == after && !strings.HasSuffix(a, "="+value)
	case by == "perl" && (name == "M" || name == "m"):
		if folders, ok := strings.CutPrefix(value, "lib="); ok {
			g.list(folders, ",")
		}
	case by == "python" && name == "X":
		if folder, ok := strings.CutPrefix(value, "pycache_prefix="); ok {
			g.note(folder)
		}
	case by == "php" && (name == "d" || name == "define"):
		g.setting(value)
	}
	return false
}

// value returns the name of an option and its value, in the same argument or the next.
func (how *interpreting) value(a, next string) (name, value string) {
	if how.words || strings.HasPrefix(a, "--") {
		name, value, found := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if !found {
			value = next
		}
		return name, value
	}
	for i := 1; i < len(a); i++ {
		c := a[i : i+1]
		switch {
		case strings.Contains(how.inside, c):
			return "", ""
		case i+1 == len(a):
			return c, next
		case strings.Contains(how.valued, c), strings.Contains(how.stuck, c), strings.Contains(how.file, c):
			return c, a[i+1:]
		}
	}
	return "", ""
}

// loaded notes the value of an option that loads code. What Node and Ruby are told
// by the name of a module is found in folders that are known otherwise.
func (g *given) loaded(option, value string) {
	value = strings.TrimPrefix(value, "file://")
	switch {
	case (g.kind == "node" || g.kind == "nodejs" || g.kind == "bun") && !isPath(value) && !strings.HasPrefix(option, "env-file"):
	case g.kind == "ruby" && option == "r" && !isPath(value):
	case (strings.HasPrefix(g.kind, "vim") || g.kind == "nvim") && (value == "NONE" || value == "NORC" || value == "DEFAULTS"):
	case option == "I":
		g.list(value, ":")
	default:
		g.note(value)
	}
}

func isPath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}

// list notes each of a list of folders or files. An empty one, which is the working
// folder to many programs, is left out.
func (g *given) list(paths, by string) {
	for p := range strings.SplitSeq(paths, by) {
		g.note(p)
	}
}

// setting notes code that a setting of PHP has it run.
func (g *given) setting(s string) {
	name, value, _ := strings.Cut(s, "=")
	value = strings.Trim(strings.TrimSpace(value), `"'`)
	switch strings.TrimSpace(name) {
	case "auto_prepend_file", "auto_append_file", "opcache.preload", "opcache.file_cache":
		g.note(value)
	case "extension", "zend_extension", "extension_dir":
		if isPath(value) {
			g.note(value)
		}
	case "include_path":
		for p := range strings.SplitSeq(value, ":") {
			if p != "." {
				g.note(p)
			}
		}
	}
}

// runners are modules of Python that run files of the arguments behind them. Values are
// options that take a value; all but those of every are followed by one file, whose
// own arguments come next.
var runners = map[string]string{
	"pdb": "-c", "trace": "-f --file -C --coverdir --ignore-module --ignore-dir", "cProfile": "-o --outfile -s --sort", "profile": "-o --outfile -s --sort",
	"doctest": "-o", "unittest": "-k", "pickle": "", "pydoc": "-k -n -p", "coverage": "", "debugpy": "--listen --connect --configure-", "ipdb": "-c", "pudb": "",
	"pytest": "", "line_profiler": "", "kernprof": "", "memory_profiler": "",
}

// prompts are modules that run what comes by standard input.
const prompts = "code asyncio IPython"

// every are those of runners that run each file that they are given.
const every = "doctest unittest pickle pydoc pytest"

// module looks at what follows -m of Python. A module that is named is looked for in the
// working folder first: one for temporary files is told.
func (g *given) module(how *interpreting, a string, rest []string) {
	if g.kind != "python" && g.kind != "pypy" {
		return
	}
	at := strings.IndexAny(a[1:], how.inside) + 1
	if at == 0 || a[at] != 'm' {
		return
	}
	if widen.Temporary(Inside(g.cwd)) {
		g.note(top(g.cwd))
	}
	name := a[at+1:]
	if name == "" && len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	g.input = slices.Contains(strings.Fields(prompts), name)
	takes, known := runners[name]
	if !known {
		return
	}
	if name == "coverage" && len(rest) > 0 && rest[0] == "run" {
		rest = rest[1:]
	}
	for i := 0; i < len(rest); i++ {
		switch a := rest[i]; {
		case a == "-m", a == "--module": // another module
			return
		case slices.Contains(strings.Fields(takes), a):
			i++
		case strings.HasPrefix(a, "-"):
		case !slices.Contains(strings.Fields(every), name):
			g.note(a)
			return
		case strings.Contains(a, "/"), path.Ext(a) == ".py", name == "pickle":
			file, _, _ := strings.Cut(a, "::") // a test of it
			g.note(file)
		}
	}
}

// Inside is a path that only patterns for all that is in a folder match.
func Inside(folder string) string { return strings.TrimSuffix(folder, "/") + "/." }

// top returns the folder for temporary files in which a folder lies: those below it have
// other names each time.
func top(folder string) string {
	for folder != "/" && widen.Temporary(folder) {
		folder = path.Dir(folder)
	}
	return folder
}

// classPaths are options of Java that name where classes are, and arguments of its own
// in a file.
var classPaths = []string{"-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path"}

// javaValued are further ones whose value is the next argument.
var javaValued = []string{"--add-modules", "--add-exports", "--add-opens", "--add-reads", "--limit-modules", "--enable-native-access", "--source", "-d", "--describe-module"}

// java looks at the options of Java, up to the class or file that it runs.
func (g *given) java(args []string) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		name, value, attached := strings.Cut(a, "=")
		switch {
		case slices.Contains(classPaths, name):
			if !attached && i+1 < len(args) {
				i++
				value = args[i]
			}
			g.classes(value)
		case slices.Contains(javaValued, a):
			i++
		case a == "-jar", a == "-m", a == "--module":
			return // what is behind -jar is the script
		case strings.HasPrefix(a, "@"):
			g.note(a[1:])
		case strings.HasPrefix(a, "-"):
			g.javaOption(a)
		default:
			return
		}
	}
}

// javaOption notes code that one option of Java loads: on its command line or in a
// variable.
func (g *given) javaOption(a string) {
	for _, before := range []string{"-javaagent:", "-agentpath:"} {
		if rest, ok := strings.CutPrefix(a, before); ok {
			file, _, _ := strings.Cut(rest, "=")
			g.note(file)
		}
	}
	for _, before := range []string{"-Xbootclasspath:", "-Xbootclasspath/a:", "-Xbootclasspath/p:", "-Djava.class.path=", "-Djava.ext.dirs=", "-Djava.library.path="} {
		if rest, ok := strings.CutPrefix(a, before); ok {
			g.classes(rest)
		}
	}
	for _, before := range []string{"-XX:Flags=", "-XX:VMOptionsFile=", "-XX:SharedArchiveFile="} {
		if rest, ok := strings.CutPrefix(a, before); ok {
			g.note(rest)
		}
	}
}

// classes notes the folders of a class path: those of its archives, whose names change
// with their versions.
func (g *given) classes(list string) {
	for p := range strings.SplitSeq(list, ":") {
		if ext := path.Ext(p); ext == ".jar" || ext == ".zip" || path.Base(p) == "*" {
			p = path.Dir(p)
		}
		g.note(p)
	}
}

// environment notes code that variables have an interpreter load.
func (g *given) environment(variables []string) {
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		if len(v) >= event.MaxVariable-1 { // the last word of it may be cut
			value = value[:max(0, strings.LastIndexAny(value, ":; "))]
		}
		if by := readers[name]; by != "" && (by == cmp.Or(family[g.kind], g.kind) || by == "shell" && g.isShell()) {
			g.variable(name, value)
		}
	}
}

// family has interpreters that go by what another goes by.
var family = map[string]string{"nodejs": "node", "pypy": "python", "luajit": "lua", "rbash": "bash", "gmake": "make", "php-cgi": "php"}

func (g *given) isShell() bool {
	how, _ := g.how()
	return how.plus || g.kind == "fish" || g.kind == "csh" || g.kind == "tcsh"
}

// readers are the interpreters that go by a variable; those of shells count for all of
// them.
var readers = map[string]string{
	"BASH_ENV": "bash", "ENV": "shell", "ZDOTDIR": "zsh",
	"PYTHONSTARTUP": "python", "PYTHONPATH": "python", "PYTHONHOME": "python", "PYTHONUSERBASE": "python", "PYTHONPYCACHEPREFIX": "python",
	"PERL5LIB": "perl", "PERLLIB": "perl", "PERL5OPT": "perl", "RUBYLIB": "ruby", "RUBYOPT": "ruby",
	"NODE_PATH": "node", "NODE_OPTIONS": "node", "PHP_INI_SCAN_DIR": "php", "LUA_INIT": "lua", "LUA_PATH": "lua", "LUA_CPATH": "lua",
	"CLASSPATH": "java", "JAVA_TOOL_OPTIONS": "java", "_JAVA_OPTIONS": "java", "JDK_JAVA_OPTIONS": "java", "MAKEFILES": "make",
}

func (g *given) variable(name, value string) {
	switch name {
	case "ENV": // of many applications it names where they are used
		if path.IsAbs(value) {
			g.note(value)
		}
	case "CLASSPATH":
		g.classes(value)
	case "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS":
		g.java(slices.DeleteFunc(strings.Fields(value), func(a string) bool { return a == "…" })) // options that were left out
	case "NODE_OPTIONS", "RUBYOPT", "PERL5OPT":
		how, _ := g.how()
		words := strings.Fields(value)
		for i, a := range words {
			g.option(&how, a, append(words, "")[i+1])
		}
	case "LUA_INIT":
		if file, ok := strings.CutPrefix(value, "@"); ok {
			g.note(file)
		}
	case "LUA_PATH", "LUA_CPATH":
		for p := range strings.SplitSeq(value, ";") {
			if folder, _, ok := strings.Cut(p, "/?"); ok && folder != "." {
				g.note(folder)
			}
		}
	case "MAKEFILES":
		g.list(value, " ")
	default:
		g.list(value, ":")
	}
}
