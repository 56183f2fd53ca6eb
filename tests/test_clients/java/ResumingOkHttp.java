import java.io.IOException;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okio.BufferedSource;

/** Listens to a turn with OkHttp. */
final class ResumingOkHttp {
    private static final OkHttpClient CLIENT = new OkHttpClient();

    public static void main(String[] arguments) throws IOException {
        Resuming.listen(ResumingOkHttp::connect);
        // Its threads would wait for more for a minute.
        System.exit(0);
    }

    private static int connect(String url, String lastEventId, Resuming.Lines lines) throws IOException {
        Request.Builder request = new Request.Builder().url(url);
        if (lastEventId != null) request.header("Last-Event-ID", lastEventId);
        try (Response response = CLIENT.newCall(request.build()).execute()) {
            BufferedSource source = response.body().source();
            for (String line = source.readUtf8Line(); line != null; line = source.readUtf8Line()) {
                if (!lines.take(line)) break;
            }
            return response.code();
        }
    }
}
