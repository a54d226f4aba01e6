package pattern

import "strings"

// Folder returns the folder that a path is in.
func Folder(p string) string { return p[:max(strings.LastIndexByte(p, '/'), 0)] }

// Name returns what is behind the last slash of a path.
func Name(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// Extension returns what is behind the last dot of a name, in lower case; empty for
// none, for hidden files without another dot, and for what is too long to be one.
func Extension(p string) string {
	const longest = 24
	name := Name(p)
	if at := strings.LastIndexByte(name, '.'); at > 0 && len(name)-at-1 <= longest {
		return strings.ToLower(name[at+1:])
	}
	return ""
}

// AnyFolder says whether one of the folders of a path is called like one of these. A
// name that begins with a dot is found by that.
func AnyFolder(p string, names map[string]bool) bool {
	for p != "" {
		part, rest, more := strings.Cut(p, "/")
		if !more {
			return false // the file itself
		}
		if names[part] {
			return true
		}
		p = rest
	}
	return false
}

// Document says that an extension is that of a file with somebody's data or text in
// it, which one who encrypts for ransom looks for.
func Document(extension string) bool { return documents[extension] }

var documents = map[string]bool{
	"7z": true, "accdb": true, "ai": true, "avi": true, "bak": true, "bmp": true, "cad": true, "cer": true, "class": true,
	"conf": true, "cpp": true, "crt": true, "cs": true, "csv": true, "dat": true, "db": true, "dbf": true, "doc": true,
	"docm": true, "docx": true, "dwg": true, "eml": true, "epub": true, "flac": true, "frm": true, "gif": true, "go": true,
	"gz": true, "heic": true, "htm": true, "html": true, "ibd": true, "ini": true, "java": true, "jpeg": true,
	"jpg": true, "js": true, "json": true, "jsp": true, "kdbx": true, "key": true, "ldf": true, "log": true, "md": true,
	"mdb": true, "mdf": true, "mkv": true, "mov": true, "mp3": true, "mp4": true, "mpg": true, "msg": true, "myd": true,
	"myi": true, "odp": true, "ods": true, "odt": true, "ogg": true, "ora": true, "p12": true, "pdf": true, "pem": true,
	"pfx": true, "php": true, "png": true, "ppt": true, "pptx": true, "ps1": true, "psd": true, "pst": true, "py": true,
	"rar": true, "raw": true, "rb": true, "rtf": true, "sh": true, "sql": true, "sqlite": true, "sqlite3": true, "svg": true,
	"tar": true, "tgz": true, "tif": true, "tiff": true, "ts": true, "txt": true, "vdi": true, "vmdk": true, "vmx": true,
	"vsd": true, "wav": true, "webp": true, "wmv": true, "xls": true, "xlsm": true, "xlsx": true, "xml": true, "yaml": true,
	"yml": true, "zip": true,
}
