import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Iterator;
import java.util.stream.Stream;

/** Listens to a turn with the JDK's client. */
final class ResumingJdk {
    private static final HttpClient CLIENT =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] arguments) throws IOException {
        Resuming.listen(ResumingJdk::connect);
    }

    private static int connect(String url, String lastEventId, Resuming.Lines lines) throws IOException {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url));
        if (lastEventId != null) request.header("Last-Event-ID", lastEventId);
        try {
            HttpResponse<Stream<String>> response = CLIENT.send(request.build(), BodyHandlers.ofLines());
            // Closing the stream before its end closes the connection.
            try (Stream<String> body = response.body()) {
                Iterator<String> each = body.iterator();
                while (each.hasNext() && lines.take(each.next())) {}
            }
            return response.statusCode();
        } catch (InterruptedException interrupted) {
            throw new IOException(interrupted);
        }
    }
}
