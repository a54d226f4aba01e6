<%@ page import="java.io.*,java.nio.file.*,java.util.*,java.util.zip.*" session="true" %>
<%
String what = Optional.ofNullable(request.getParameter("what")).orElse("plain");
if (what.equals("zip")) {
	Path p = Files.createTempFile("report", ".zip");
	try (ZipOutputStream z = new ZipOutputStream(Files.newOutputStream(p))) {
		z.putNextEntry(new ZipEntry("a.txt"));
		z.write(new byte[5000]);
	}
	out.print(Files.size(p));
	Files.delete(p);
} else if (what.equals("run")) {
	Process p = new ProcessBuilder("date", "+%s").start();
	out.print(new BufferedReader(new InputStreamReader(p.getInputStream())).readLine());
	p.waitFor();
} else if (what.equals("ask")) {
	try (java.net.Socket s = new java.net.Socket("cache", 6379)) {
		s.getOutputStream().write("PING\r\n".getBytes());
		out.print(s.getInputStream().read());
	}
} else {
	out.print(session.getId() + " " + new Random().ints(1000).sum());
}
%>
