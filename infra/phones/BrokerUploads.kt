package example.uploads

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.net.HttpURLConnection
import java.net.URL
import java.util.UUID
import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** The broker or S3 refused the upload for good; the message says why. */
class Refused(message: String) : Exception(message)

/**
 * Resumable uploads of videos through the broker. Each upload is a file in [folder] until it is ready, so that it goes on
 * after any end of the app: call [run] again, from a WorkManager worker or at the next start.
 *
 * [prefix] is the address of the broker's routes; [token] returns the user's current token. Both may block.
 */
class BrokerUploads(private val folder: File, private val prefix: String, private val token: () -> String) {

    /** Record an upload of [video], which must stay unchanged until it is ready. Return its id for [run]. */
    fun add(video: File, contentType: String): String {
        val id = UUID.randomUUID().toString()
        folder.mkdirs()
        save(id, JSONObject().put("video", video.path).put("size", video.length()).put("type", contentType))
        return id
    }

    /** Return the ids of the uploads that are not ready yet. */
    fun unfinished(): List<String> = folder.list().orEmpty().filter { it.endsWith(".json") }.map { it.removeSuffix(".json") }

    /**
     * Upload what is missing, complete the upload, and return the media's id. [progress] gets the numbers of arrived and of
     * all parts. Throws IOException if a later run may succeed, and Refused if none can.
     */
    fun run(id: String, progress: (Int, Int) -> Unit = { _, _ -> }): String {
        val upload = JSONObject(file(id).readText())
        try {
            if (!upload.has("media_id")) issue(id, upload)
            sendMissingParts(upload, progress)
            complete(upload)
        } catch (error: Refused) {
            file(id).delete()
            throw error
        }
        file(id).delete()
        return upload.getString("media_id")
    }

    /** Delete the media, if there is one, and forget the upload. */
    fun cancel(id: String) {
        val upload = JSONObject(file(id).readText())
        if (upload.has("media_id")) call("DELETE", "$prefix/${upload.getString("media_id")}", null)
        file(id).delete()
    }

    /** The id is the Idempotency-Key: a repeated request gets the same media, also if its answer was lost. */
    private fun issue(id: String, upload: JSONObject) {
        val body = JSONObject().put("content_type", upload.getString("type")).put("size", upload.getLong("size"))
        val issued = call("POST", "$prefix/upload", body.put("resumable", true), id)
        for (name in listOf("media_id", "parts_url", "complete_url")) upload.put(name, issued.getString(name))
        save(id, upload)
    }

    private fun sendMissingParts(upload: JSONObject, progress: (Int, Int) -> Unit) {
        val video = File(upload.getString("video"))
        val senders = Executors.newFixedThreadPool(AT_ONCE)
        var from = 1
        var rounds = 0
        try {
            while (true) {
                val page = call("GET", "${upload.getString("parts_url")}?from=$from&limit=1000&forms=$FORMS", null)
                val parts = page.getJSONObject("parts")
                progress(from - 1 + parts.getJSONArray("arrived").length(), parts.getInt("count"))
                val forms = parts.getJSONArray("forms").objects()
                if (forms.isEmpty()) from = if (parts.isNull("next_from")) return else parts.getInt("next_from")
                if (++rounds > parts.getInt("count") + TRIES) throw IOException("S3 keeps no part")
                // Refused forms may have expired; the next page has fresh ones.
                senders.invokeAll(forms.map { form -> Callable { send(video, parts, form) } }).forEach { it.result() }
            }
        } finally {
            senders.shutdownNow()
        }
    }

    /** Post one part: the common fields, its own, then exactly its bytes, streamed from the video. */
    private fun send(video: File, parts: JSONObject, form: JSONObject) {
        val boundary = UUID.randomUUID().toString()
        val head = StringBuilder()
        for (fields in listOf(parts.getJSONObject("fields"), form.getJSONObject("fields"))) {
            for (name in fields.keys()) {
                head.append("--$boundary\r\nContent-Disposition: form-data; name=\"$name\"\r\n\r\n${fields.getString(name)}\r\n")
            }
        }
        head.append("--$boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n")
        val first = head.toString().toByteArray()
        val last = "\r\n--$boundary--\r\n".toByteArray()
        val size = form.getLong("size")

        val connection = open("POST", parts.getString("url"))
        connection.setFixedLengthStreamingMode(first.size + size + last.size)
        connection.setRequestProperty("Content-Type", "multipart/form-data; boundary=$boundary")
        connection.doOutput = true
        try {
            connection.outputStream.use { output ->
                output.write(first)
                RandomAccessFile(video, "r").use { input ->
                    input.seek((form.getInt("number") - 1) * parts.getLong("part_size"))
                    val buffer = ByteArray(64 * 1024)
                    var left = size
                    while (left > 0) {
                        val count = input.read(buffer, 0, minOf(left, buffer.size.toLong()).toInt())
                        if (count < 0) throw Refused("The video became shorter.")
                        output.write(buffer, 0, count)
                        left -= count
                    }
                }
                output.write(last)
            }
            val status = connection.responseCode
            if (status == 201 || status == 403 || status >= 500) return
            val error = connection.errorStream?.bufferedReader()?.use { it.readText() }.orEmpty()
            if (RETRIED_BY_S3.none { "<Code>$it</Code>" in error }) throw Refused("S3 answers $status.")
        } finally {
            connection.disconnect()
        }
    }

    private fun complete(upload: JSONObject) {
        for (attempt in 1..TRIES) {
            val answer = call("POST", upload.getString("complete_url"), null, conflict = true)
            if (answer.optInt("status") != 409) return
            Thread.sleep(RETRY_MILLIS * attempt)
        }
        throw IOException("The upload is still being confirmed.")
    }

    /** Return the broker's answer. Throws IOException for 401, 408, 409, 429 and 5xx, and Refused for any other problem. */
    private fun call(method: String, url: String, body: JSONObject?, key: String? = null, conflict: Boolean = false): JSONObject {
        val connection = open(method, url)
        connection.setRequestProperty("Authorization", "Bearer ${token()}")
        if (key != null) connection.setRequestProperty("Idempotency-Key", key)
        if (body != null) {
            connection.doOutput = true
            connection.setRequestProperty("Content-Type", "application/json")
            connection.outputStream.use { it.write(body.toString().toByteArray()) }
        }
        try {
            val status = connection.responseCode
            val text = (if (status < 400) connection.inputStream else connection.errorStream)?.bufferedReader()?.use { it.readText() }
            if (status < 400 || (conflict && status == 409)) return answer(text ?: "{}")
            val problem = runCatching { JSONObject(text ?: "").getString("detail") }.getOrDefault("The broker answers $status.")
            if (status in RETRIED || status >= 500) throw IOException(problem)
            throw Refused(problem)
        } finally {
            connection.disconnect()
        }
    }

    /** A page that is not JSON comes from something between app and broker, such as the login of a hotel's network. */
    private fun answer(text: String): JSONObject = try {
        JSONObject(text)
    } catch (error: JSONException) {
        throw IOException("The answer is not the broker's.", error)
    }

    private fun open(method: String, url: String): HttpURLConnection {
        val connection = URL(url).openConnection() as HttpURLConnection
        connection.requestMethod = method
        connection.connectTimeout = TIMEOUT_MILLIS
        connection.readTimeout = TIMEOUT_MILLIS
        return connection
    }

    private fun file(id: String) = File(folder, "$id.json")

    /** Write a new file and rename it: an app that ends meanwhile leaves the old one. */
    private fun save(id: String, upload: JSONObject) {
        val written = File(folder, "$id.new").apply { writeText(upload.toString()) }
        if (!written.renameTo(file(id))) throw IOException("cannot write to $folder")
    }

    private fun JSONArray.objects(): List<JSONObject> = (0 until length()).map { getJSONObject(it) }

    private fun java.util.concurrent.Future<*>.result() {
        try {
            get()
        } catch (error: ExecutionException) {
            throw error.cause ?: error
        }
    }

    private companion object {
        const val AT_ONCE = 3
        const val FORMS = 12
        const val TRIES = 10
        const val RETRY_MILLIS = 1000L
        const val TIMEOUT_MILLIS = 60_000
        val RETRIED = setOf(401, 408, 409, 429)
        val RETRIED_BY_S3 = setOf("ExpiredToken", "RequestTimeout", "SlowDown")
    }
}
